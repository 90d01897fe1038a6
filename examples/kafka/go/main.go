// Asks Triton for a release over Kafka, and prints the answers until it is over.
//
//	go run . 20004-shop-10010 shop:1.0
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	commands = "triton.deploy-commands"
	replies  = "paas.replies"
)

type object = map[string]any

type reply struct {
	Result string `json:"result"`
	Phase  string `json:"phase"`
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: deploy INSTANCE IMAGE")
	}
	instance, image := os.Args[1], os.Args[2]
	id, key := rand.Text(), "default/"+instance
	command, err := json.Marshal(object{
		"id":          id,
		"type":        "deploy",
		"namespace":   "default",
		"requestedBy": "paas",
		"replyTo":     replies,
		"spec": object{
			"action": "create",
			"application": object{
				"appID":        20004,
				"groupID":      10010,
				"appName":      "shop",
				"instanceName": instance,
				"replicas":     2,
				"template": object{"spec": object{
					"containers": []object{{"name": "shop", "image": image}},
				}},
			},
			"updateStrategy": object{"batchSize": 1, "mode": "auto"},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	header := func(key, value string) kgo.RecordHeader {
		return kgo.RecordHeader{Key: key, Value: []byte(value)}
	}

	kafka := cmp.Or(os.Getenv("TRITON_KAFKA_BOOTSTRAP"), "127.0.0.1:9092")
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(kafka, ",")...),
		// a program that goes on running reads its answers in a group of its own instead
		kgo.ConsumeTopics(replies),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx := context.Background()
	record := &kgo.Record{
		Topic: commands,
		Key:   []byte(key),
		Value: command,
		Headers: []kgo.RecordHeader{
			header("content-type", "application/json"),
			header("ce_specversion", "1.0"),
			header("ce_id", id),
			header("ce_type", "com.example.paas.deploy"),
			header("ce_source", "/paas"),
			header("ce_subject", key),
			header("ce_time", time.Now().UTC().Format(time.RFC3339Nano)),
		},
	}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		log.Fatal(err)
	}

	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			log.Fatal(err)
		}
		for _, record := range fetches.Records() {
			if string(record.Key) != id {
				continue
			}
			fmt.Println(string(record.Value))
			var answer reply
			if err := json.Unmarshal(record.Value, &answer); err != nil {
				log.Fatal(err)
			}
			switch {
			case answer.Result == "accepted":
			case answer.Phase == "Success":
				return
			default:
				os.Exit(1)
			}
		}
	}
}
