"""Asks Triton for a release over Kafka, and prints the answers until it is over.

pip install confluent-kafka
python deploy.py 20003-shop-10010 shop:1.0
"""

import json
import os
import sys
import uuid
from datetime import UTC, datetime

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

KAFKA = os.environ.get("TRITON_KAFKA_BOOTSTRAP", "127.0.0.1:9092")
COMMANDS, REPLIES = "triton.deploy-commands", "paas.replies"

_, instance, image = sys.argv
request, key = str(uuid.uuid4()), f"default/{instance}"
command = {
    "id": request,
    "type": "deploy",
    "namespace": "default",
    "requestedBy": "paas",
    "replyTo": REPLIES,
    "spec": {
        "action": "create",
        "application": {
            "appID": 20003,
            "groupID": 10010,
            "appName": "shop",
            "instanceName": instance,
            "replicas": 2,
            "template": {"spec": {"containers": [{"name": "shop", "image": image}]}},
        },
        "updateStrategy": {"batchSize": 1, "mode": "auto"},
    },
}
headers = {
    "content-type": "application/json",
    "ce_specversion": "1.0",
    "ce_id": request,
    "ce_type": "com.example.paas.deploy",
    "ce_source": "/paas",
    "ce_subject": key,
    "ce_time": datetime.now(UTC).isoformat(),
}

# a program that goes on running reads its answers in a group of its own instead
replies = Consumer({"bootstrap.servers": KAFKA, "group.id": "unused", "enable.auto.commit": False})
partitions = replies.list_topics(REPLIES, timeout=30).topics[REPLIES].partitions
if not partitions:
    sys.exit(f"there is no topic {REPLIES}: make it first")
replies.assign([TopicPartition(REPLIES, number, OFFSET_BEGINNING) for number in partitions])

# the partitioner is that of Kafka's own clients: commands for one instance then stay in order, whoever sends them
producer = Producer({"bootstrap.servers": KAFKA, "enable.idempotence": True, "partitioner": "murmur2_random"})
producer.produce(COMMANDS, json.dumps(command), key, headers=list(headers.items()))
if producer.flush(30):
    sys.exit("Kafka did not take the command")

while True:
    record = replies.poll(1.0)
    if record is None or record.key() != request.encode():
        continue
    print(record.value().decode(), flush=True)
    reply = json.loads(record.value())
    if reply["result"] != "accepted":
        break
replies.close()
sys.exit(0 if reply.get("phase") == "Success" else 1)
