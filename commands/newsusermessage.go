package commands

import (
	"sync"

	"nabu/domain"
)

// everyProject stands for those who hear of the user messages of all projects. No project
// is called so.
const everyProject = ""

// SubscribeToUserMessages has a function called whenever a project, or any project if it is
// empty, may have a new user message, until the subscription is cancelled. It must not
// block, nor call News. If there are too many readers, nothing is ever told, and ok is false.
func (n *News) SubscribeToUserMessages(project string, heard func()) (cancel func(), ok bool) {
	if n == nil {
		return func() {}, false
	}
	if n.readers.Add(1) > maxReaders {
		n.readers.Add(-1)
		return func() {}, false
	}
	l := &listener{heard}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.projects[project] == nil {
		n.projects[project] = map[*listener]struct{}{}
	}
	n.projects[project][l] = struct{}{}
	return sync.OnceFunc(func() {
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
			l.heard()
		}
	}
}
