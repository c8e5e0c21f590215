package http

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// listQueues carries out queue_list. Metadata is shown as it is stored.
func (o *order) listQueues() (status int, err error) {
	list := projections.QueueList{Project: o.queue.Project}
	list.After, _, _ = strings.Cut(o.args.text("marker"), "\x00") // see readQueueList
	if list.Limit, err = o.args.limit(o.Limits.MaxQueuesPerPage); err != nil {
		return 0, err
	}
	queues, err := o.Views.Queues(o.ctx, list)
	if err != nil {
		return 0, err
	}
	o.out = append(o.out, `{"queues":[`...)
	for i, q := range queues {
		if i > 0 {
			o.out = append(o.out, ',')
		}
		o.out = append(append(append(o.out, `{"name":"`...), q.Name...), '"')
		if o.args.flag("detailed") {
			o.out = append(append(o.out, `,"metadata":`...), q.Metadata.Text()...)
		}
		o.out = append(o.out, '}')
	}
	o.out = append(o.out, `]}`...)
	return http.StatusOK, nil
}

// createQueue carries out queue_create.
func (o *order) createQueue() (status int, err error) {
	cmd := commands.CreateQueue{Queue: o.queue}
	if metadata, given := o.args["metadata"]; given {
		if len(metadata) > o.Limits.MaxQueueMetadata {
			return 0, domain.Errorf(domain.Invalid, "metadata must not be larger than %d bytes", o.Limits.MaxQueueMetadata)
		}
		if cmd.Metadata, err = domain.ParseMetadata([]byte(metadata)); err != nil {
			return 0, err
		}
	}
	created, err := commands.Run(o.ctx, o.Executor, cmd)
	if err != nil {
		return 0, err
	}
	if !created {
		o.say(fmt.Sprintf("Queue %s is there already.", o.queue.Name))
		return http.StatusNoContent, nil
	}
	o.say(fmt.Sprintf("Queue %s created.", o.queue.Name))
	return http.StatusCreated, nil
}

// showQueue carries out queue_get. A queue that is not there has no metadata.
func (o *order) showQueue() (status int, err error) {
	metadata, _, err := o.Views.Queue(o.ctx, o.queue)
	if err != nil {
		return 0, err
	}
	o.out = append(o.out, metadata.Text()...)
	return http.StatusOK, nil
}

// showStats carries out queue_get_stats. Unlike with HTTP a queue has to be there.
func (o *order) showStats() (status int, err error) {
	stats, err := o.Views.Stats(o.ctx, o.queue)
	if err != nil {
		return 0, err
	}
	status = http.StatusOK
	if stats.Total == 0 {
		_, exists, err := o.Views.Queue(o.ctx, o.queue)
		if err != nil {
			return 0, err
		}
		if !exists {
			status = http.StatusNotFound
		}
	}
	o.out = appendCounts(append(o.out, `{"messages":{`...), stats)
	o.out = appendAge(o.out, "oldest", stats.Oldest)
	o.out = append(appendAge(o.out, "newest", stats.Newest), `}}`...)
	return status, nil
}

// appendAge writes a message of which only the age is told.
func appendAge(out []byte, name string, m *projections.MessageAge) []byte {
	if m == nil {
		return out
	}
	out = append(append(append(out, `,"`...), name...), `":{"id":"`...)
	out = append(strconv.AppendInt(append(appendUUID(out, m.ID), `","age":`...), int64(m.Age), 10), `,"created":"`...)
	return append(m.Created.UTC().AppendFormat(out, createdFormat), `"}`...)
}

// deleteQueue carries out queue_delete.
func (o *order) deleteQueue() (status int, err error) {
	if _, err := commands.Run(o.ctx, o.Executor, commands.DeleteQueue{Queue: o.queue}); err != nil {
		return 0, err
	}
	o.say(fmt.Sprintf("Queue %s removed.", o.queue.Name))
	return http.StatusNoContent, nil
}

// purgeQueue carries out queue_purge.
func (o *order) purgeQueue() (status int, err error) {
	cmd := commands.PurgeQueue{Messages: true, Subscriptions: true}
	if types, given := o.args["resource_types"]; given {
		if cmd, err = readResourceTypes(types); err != nil {
			return 0, err
		}
	}
	cmd.Queue = o.queue
	if err := o.purge(o.ctx, o.requestWithoutKey(), cmd); err != nil {
		return 0, err
	}
	o.out = append(o.out, `{}`...)
	return http.StatusNoContent, nil
}
