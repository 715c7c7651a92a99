// The other side of pg_boss.rs: one command a line on standard input, one answer a line on standard output.
import { createInterface } from 'node:readline';
import PgBoss from 'pg-boss';

const QUEUE = 'noop';
const FETCHED_AT_ONCE = 200;
const LOOPS = 4;
const POLL_SECONDS = 0.5; // the least there is

const boss = new PgBoss({ connectionString: process.argv[2], max: 10, supervise: false, schedule: false });
boss.on('error', (error) => { console.error(String(error)); });
await boss.start();
await boss.createQueue(QUEUE);

const payload = (number) => ({ number, key: 'asl/pdfs/2024/lead-and-iron.pdf' });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const commands = {
  async enqueue({ batches, batch }) {
    for (let n = 0; n < batches; n += 1) {
      await boss.insert(Array.from({ length: batch }, (_, number) => ({ name: QUEUE, data: payload(number) })));
    }
    return {};
  },
  async work({ jobs }) {
    let done = 0;
    const begin = performance.now();
    const loop = async () => {
      while (done < jobs) {
        const fetched = await boss.fetch(QUEUE, { batchSize: FETCHED_AT_ONCE });
        if (fetched.length === 0) return;
        await boss.complete(QUEUE, fetched.map((job) => job.id));
        done += fetched.length;
      }
    };
    await Promise.all(Array.from({ length: LOOPS }, loop));
    const ms = performance.now() - begin;
    if (done !== jobs) throw new Error(`${done} of ${jobs} jobs done`);
    return { ms };
  },
  async starts({ ms }) {
    let started;
    const worker = await boss.work(QUEUE, { pollingIntervalSeconds: POLL_SECONDS }, async () => {
      started?.(performance.now());
    });
    const end = performance.now() + ms;
    const starts = [];
    while (performance.now() < end) {
      await pause(20 + Math.random() * 40);
      const handled = new Promise((resolve) => { started = resolve; });
      const begin = performance.now();
      await boss.send(QUEUE, payload(0));
      starts.push((await handled) - begin);
    }
    await boss.offWork({ id: worker });
    return { starts };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...rest } = JSON.parse(line);
  let answer;
  try {
    answer = await commands[command](rest);
  } catch (error) {
    answer = { error: String(error) };
  }
  console.log(JSON.stringify(answer));
}
await boss.stop({ graceful: false });
process.exit(0);
