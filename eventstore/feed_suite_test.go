package eventstore_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"math"
	"os"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// The conformance suite of watermill publishes messages of its own to topics. Here a
// message becomes an event of its own, and a topic is a project: the messages of one
// topic are the events of one project. A consumer is made for each topic and consumer
// group. Its feed delivers one event at a time; those of other projects are acknowledged
// by the test, as a reactor does with what does not concern it, and the others reach the
// suite as the message that they were. So it is the feed's own message whose Ack, Nack
// and context the suite tries.
//
// Each test of the suite has a ledger of its own, which all its publishers and
// subscribers share.

var features = tests.Features{
	// The long form is the same with up to a hundred times the messages: a minute or two more.
	ForceShort: os.Getenv("NABU_TEST_LONG") == "",

	ConsumerGroups:      true,
	ExactlyOnceDelivery: true,
	GuaranteedOrder:     true, // also with many subscribers: one is active
	Persistent:          true,
	// A new subscriber goes on where its consumer group is. TestEveryNewConsumerReceivesOldMessages
	// gives each subscriber a group of its own.
	NewSubscriberReceivesOldMessages: false,
	// No command could restart a test's database alone: without one the suite passes
	// over TestReconnect. TestALostConnectionEndsTheActivity stands for it.
	RestartServiceCommand: nil,
	// What the ledger keeps is the event. Where it comes from is in its origin.
	ContextPreserved: false,
}

func TestWatermillConformance(t *testing.T) {
	t.Parallel()
	ledgers := &suiteLedgers{byTest: map[string]*suiteLedger{}}
	tests.TestPubSub(t, features, ledgers.pubSub, ledgers.groupPubSub)
}

// TestWatermillConformanceAtLeastOnce runs the tests that the suite passes over when
// delivery is exactly once.
func TestWatermillConformanceAtLeastOnce(t *testing.T) {
	ledgers := &suiteLedgers{byTest: map[string]*suiteLedger{}}
	atLeastOnce := features
	atLeastOnce.ExactlyOnceDelivery = false
	for name, test := range map[string]func(*testing.T, tests.TestContext, tests.PubSubConstructor){
		"continue after subscribe close": tests.TestContinueAfterSubscribeClose,
		"concurrent close":               tests.TestConcurrentClose,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, tests.TestContext{TestID: tests.NewTestID(), Features: atLeastOnce}, ledgers.pubSub)
		})
	}
}

func TestEveryNewConsumerReceivesOldMessages(t *testing.T) {
	t.Parallel()
	ledgers := &suiteLedgers{byTest: map[string]*suiteLedger{}}
	everyNew := features
	everyNew.NewSubscriberReceivesOldMessages = true
	tests.TestNewSubscriberReceivesOldMessages(t, tests.TestContext{TestID: tests.NewTestID(), Features: everyNew},
		func(t *testing.T) (message.Publisher, message.Subscriber) {
			return ledgers.groupPubSub(t, uuid.NewString())
		})
}

// suiteLedgers are the ledgers of the suite's tests.
type suiteLedgers struct {
	mu     sync.Mutex
	byTest map[string]*suiteLedger
}

func (l *suiteLedgers) pubSub(t *testing.T) (message.Publisher, message.Subscriber) {
	return l.groupPubSub(t, "everybody")
}

func (l *suiteLedgers) groupPubSub(t *testing.T, group string) (message.Publisher, message.Subscriber) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ledger := l.byTest[t.Name()]
	if ledger == nil {
		db, err := postgres.Open(pgtest.Open(t).URL(), 60) // the suite has up to 50 subscribers
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		ledger = &suiteLedger{db: db}
		l.byTest[t.Name()] = ledger
	}
	// In its long form the suite refuses a message more often than one is tried.
	patient := func(cfg *eventstore.FeedConfig) { cfg.Tries = math.MaxInt }
	return ledger, &suiteSubscriber{Feed: newFeed(t, ledger.db, oneByOne, patient), group: group}
}

// suiteLedger appends what the suite publishes.
type suiteLedger struct {
	db *sql.DB

	mu   sync.Mutex
	head eventstore.Head
}

// suiteMessage is a message of the suite as an event's body.
type suiteMessage struct {
	UUID     string
	Metadata map[string]string
	Payload  []byte
}

// Publish appends the messages in one batch.
func (l *suiteLedger) Publish(topic string, messages ...*message.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := eventstore.Batch{ID: uuid.New(), Head: l.head}
	for i, msg := range messages {
		body, err := json.Marshal(suiteMessage{msg.UUID, msg.Metadata, msg.Payload})
		if err != nil {
			return err
		}
		batch.Events = append(batch.Events, eventstore.NewEvent{
			Event: domain.MessagesPosted{Project: topic, Queue: "suite", Number: 1, Client: "c", Messages: []domain.PostedMessage{
				{ID: domain.NewMessageID(domain.PlaceOf(l.head.Position+int64(i)+1, 0), 1), TTL: 60, Body: string(body)},
			}},
			Version: l.head.Position + int64(i) + 1,
		})
	}
	at, err := eventstore.Append(context.Background(), l.db, &batch)
	if err != nil {
		return err
	}
	l.head = batch.NewHead(at)
	return nil
}

func (l *suiteLedger) Close() error { return nil }

// suiteSubscriber is a feed whose messages are the suite's.
type suiteSubscriber struct {
	*eventstore.Feed
	group   string
	passing sync.WaitGroup
}

func (s *suiteSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	slices, err := s.Feed.Subscribe(ctx, s.group+"/"+topic)
	if err != nil {
		return nil, err
	}
	out := make(chan *message.Message)
	s.passing.Go(func() {
		defer close(out)
		for msg := range slices {
			pass(msg, topic, out)
		}
	})
	return out, nil
}

func (s *suiteSubscriber) Close() error {
	err := s.Feed.Close()
	s.passing.Wait()
	return err
}

// pass makes an event of the topic the message that it was.
func pass(msg *message.Message, topic string, out chan<- *message.Message) {
	slice, _ := eventstore.SliceOf(msg)
	event := slice.Events[0].Event.(domain.MessagesPosted)
	if event.Project != topic {
		msg.Ack()
		return
	}
	var was suiteMessage
	if err := json.Unmarshal([]byte(event.Messages[0].Body), &was); err != nil {
		panic(err)
	}
	msg.UUID, msg.Metadata, msg.Payload = was.UUID, was.Metadata, was.Payload
	select {
	case out <- msg:
	case <-msg.Context().Done(): // the feed has been closed
	}
}
