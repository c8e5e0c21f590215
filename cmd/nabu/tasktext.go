package main

import (
	"fmt"
	"time"

	"nabu/domain"
)

// taskText is what an event about a task says.
func taskText(event domain.Event) string {
	switch e := event.(type) {
	case domain.TaskCreated:
		return e.Type + upto(e.Deadline) + ": " + e.Input
	case domain.TaskBegun:
		return fmt.Sprintf("attempt %d of worker %s", e.Attempt, e.Worker) + upto(e.Deadline)
	case domain.TaskProgressed:
		return e.Message + upto(e.Deadline)
	case domain.TaskSucceeded:
		return e.Result
	case domain.TaskFailed:
		return string(e.Cause) + ": " + e.Message
	case domain.TaskRequeued:
		return "the worker was lost" + upto(e.Deadline)
	}
	return ""
}

// upto is by when something has to happen; nothing for no time.
func upto(deadline time.Time) string {
	if deadline.IsZero() {
		return ""
	}
	return ", until " + deadline.UTC().Format("2006-01-02 15:04:05")
}

// subscriptionText is what an event about a subscription says.
func subscriptionText(event domain.Event) string {
	switch e := event.(type) {
	case domain.SubscriptionCreated:
		return fmt.Sprintf("%s to queue %s for %d s %s", e.Subscriber, e.Queue, e.TTL, e.Options)
	case domain.SubscriptionUpdated:
		life := ""
		if e.TTL > 0 {
			life = fmt.Sprintf(" for %d s", e.TTL)
		}
		return fmt.Sprintf("%s to queue %s%s %s", e.Subscriber, e.Queue, life, e.Options)
	}
	return ""
}

// userMessageText is what an event about a user message says.
func userMessageText(event domain.Event) string {
	e, recorded := event.(domain.UserMessageRecorded)
	if !recorded {
		return ""
	}
	return fmt.Sprintf("%s %s about %s %s", e.Level, e.EventID, e.ResourceType, e.ResourceUUID)
}
