# Alibaba's Python client, told what to do by the lines of standard input (contender.rs has their form).
import json
import sys
import threading
import time

import oss2

endpoint = sys.argv[1]
auth = oss2.AuthV4("LTAI5tBench000000000", "benchbenchbenchbenchbenchbench")
session = oss2.Session(pool_size=64)
bucket = oss2.Bucket(auth, endpoint, "demo", session=session, region="cn-hangzhou", is_path_style=True)


def perform(task):
    size = task["size"]
    data = b"\x5a" * size

    def put(key):
        bucket.put_object(key, data)

    def get(key):
        assert len(bucket.get_object(key).read()) == size

    one = {"put": put, "get": get}[task["task"]]
    counts, errors = [0] * task["callers"], []
    cpu, begin = time.process_time(), time.perf_counter()
    end = begin + task["seconds"]

    def caller(number):
        try:
            while time.perf_counter() < end:
                one(f"pdfs/{number}/{counts[number]}-{size}")
                counts[number] += 1
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(task["callers"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = {"count": sum(counts), "seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
    return took | ({"error": errors[0]} if errors else {})


for line in sys.stdin:
    print(json.dumps(perform(json.loads(line))), flush=True)
