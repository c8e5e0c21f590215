package http

import (
	"fmt"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// encryptionKinds are requests, and other events, that only queues that encrypt know.
func (m *machine) encryptionKinds() map[string]kind {
	return map[string]kind{
		"make again":   {5, m.makeAgain},
		"forget keys":  {4, m.forgetKeys},
		"destroy keys": {3, m.destroyKeys},
	}
}

// makeAgain deletes a queue and makes another one of its name, that mostly encrypts.
func (m *machine) makeAgain(name queueName) {
	m.is(m.send(name, ours, "DELETE", "", ``), m.world.remove(name))
	m.create(name, object{})
	for range m.pick("posts", 4) {
		m.pass(tick)
		m.post(name)
	}
}

// forgetKeys lets a replica's minute be over.
func (m *machine) forgetKeys(name queueName) {
	a := m.at()
	a.executor.Keys.Forget()
	m.Logf("%s forgets its keys", a.url)
	m.is(m.send(name, ours, "GET", "/stats", ``), m.world.stats(name))
}

// destroyKeys destroys a queue's keys, looks at what is left, and deletes what cannot be
// read.
func (m *machine) destroyKeys(name queueName) {
	a := m.at()
	keys := a.destroyKeysOf(domain.QueueID{Project: name.project, Name: name.name})
	m.Logf("keys of %s %s are destroyed: %v", name.project, name.name, keys)
	m.world.destroyKeys(name)
	for range m.pick("looks", 4) {
		m.pass(tick)
		sampled(m, "look", m.list, m.get, m.find, m.claim, m.showClaim, m.pop, m.post)(m.name())
	}
	a.clearUnreadable(keys)
	m.is(m.send(name, ours, "GET", "/stats", ``), m.world.stats(name))
}

// clearUnreadable deletes what is sealed with destroyed keys, as nabu keys destroy does.
func (a *api) clearUnreadable(keys []domain.KeyID) {
	a.Helper()
	for range 100 {
		found, err := a.server.Views.(*projections.Views).Unreadable(a.Context(), keys, 500)
		if err != nil {
			a.Fatal(err)
		}
		if len(found) == 0 {
			return
		}
		for _, f := range found {
			if _, err := commands.Run(a.Context(), a.executor, commands.DeleteMessages{Queue: f.Queue, IDs: f.IDs}); err != nil {
				a.Fatal(err)
			}
		}
	}
	a.Fatal(fmt.Sprint("what is sealed with these keys is not deleted: ", keys))
}

// encrypts tells whether a queue seals what is posted to it now.
func (q *modelQueue) encrypts() bool { return q.metadata["_enable_encrypt_messages"] == true }

// destroyKeys takes away whatever was sealed with the keys of a queue, or of another one
// that bore its name, wherever that is now.
func (w *world) destroyKeys(name queueName) {
	for _, q := range w.queues {
		for _, m := range q.messages {
			if m.sealed == name {
				defer q.drop(m.id)
			}
		}
	}
}
