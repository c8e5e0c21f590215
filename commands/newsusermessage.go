package commands

import (
	"sync"

	"nabu/domain"
)

// everyProject stands for those who hear of the user messages of all projects. No project
// is called so.
const everyProject = ""

// ListenToUserMessages tells by a channel that a project, or any project if it is empty, may
// have a new user message, until it is cancelled. If there are too many readers, or there are
// no news at all (nil), nothing is ever told, and ok is false.
func (n *News) ListenToUserMessages(project string) (heard <-chan struct{}, cancel func(), ok bool) {
	if n == nil || !n.letIn() {
		return nil, func() {}, false
	}
	l := newListener()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.projects[project] == nil {
		n.projects[project] = map[listener]struct{}{}
	}
	n.projects[project][l] = struct{}{}
	return l, sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if delete(n.projects[project], l); len(n.projects[project]) == 0 {
			delete(n.projects, project)
		}
		n.readers.Add(-1)
	}), true
}

// userMessageRecorded tells a project's listeners, and those of all projects.
func (n *News) userMessageRecorded(e domain.UserMessageRecorded) {
	for _, project := range []string{e.Project, everyProject} {
		for l := range n.projects[project] {
			l.hear()
		}
	}
}
