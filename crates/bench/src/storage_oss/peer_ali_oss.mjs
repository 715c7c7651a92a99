// Alibaba's client for Node, told what to do by the lines of standard input (contender.rs has their form).
import http from "node:http";
import readline from "node:readline";
import OSS from "ali-oss";

const client = new OSS({
  endpoint: process.argv[2],
  cname: true, // the address is used as it is
  region: "oss-cn-hangzhou",
  bucket: "demo",
  accessKeyId: "LTAI5tBench000000000",
  accessKeySecret: "benchbenchbenchbenchbenchbench",
  authorizationV4: true,
  agent: new http.Agent({ keepAlive: true, maxSockets: 64 }),
});

async function perform(task) {
  const data = Buffer.alloc(task.size, 0x5a);
  const put = (key) => client.put(key, data);
  const get = async (key) => {
    const { content } = await client.get(key);
    if (content.length !== task.size) throw new Error(`${content.length} bytes arrived`);
  };
  const one = task.task === "put" ? put : get;
  const cpu = process.cpuUsage();
  const begin = performance.now();
  const end = begin + task.seconds * 1000;
  let count = 0;
  const caller = async (number) => {
    for (let index = 0; performance.now() < end; index++) {
      await one(`pdfs/${number}/${index}-${task.size}`);
      count++;
    }
  };
  await Promise.all(Array.from({ length: task.callers }, (_, number) => caller(number)));
  const used = process.cpuUsage(cpu);
  return { count, seconds: (performance.now() - begin) / 1000, cpu: (used.user + used.system) / 1e6 };
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const took = await perform(JSON.parse(line)).catch((error) => ({ error: String(error) }));
  console.log(JSON.stringify(took));
}
