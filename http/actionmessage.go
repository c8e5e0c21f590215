package http

import (
	"net/http"
	"strconv"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// postMessages carries out message_post. Delays play no role, as in Zaqar.
func (o *order) postMessages() (status int, err error) {
	if highest := o.Limits.MaxMessagesPostSize; len(o.body) > highest {
		return 0, domain.Errorf(domain.Invalid, "the body must not be larger than %d bytes", highest)
	}
	messages, err := decodeMessages(o.args["messages"], o.Limits)
	if err != nil {
		return 0, err
	}
	ids, err := commands.Run(o.ctx, o.Executor, commands.PostMessages{Post: domain.Post{
		Queue: o.queue, Client: o.client, Messages: messages, Size: len(o.body), Salts: newSalts(len(messages)), AtOnce: true,
	}})
	if err != nil {
		return 0, err
	}
	o.out = append(o.out, `{"message_ids":[`...)
	for i, id := range ids {
		if i > 0 {
			o.out = append(o.out, ',')
		}
		o.out = append(appendUUID(append(o.out, '"'), id), '"')
	}
	o.out = append(o.out, `]}`...)
	return http.StatusCreated, nil
}

// listMessages carries out message_list.
func (o *order) listMessages() (status int, err error) {
	if err := o.refuseWait(); err != nil {
		return 0, err
	}
	list := projections.MessageList{
		Queue: o.queue, Client: o.client, DefaultDelay: o.Limits.DefaultMessageDelay, DelayOnAnyQueue: o.Limits.DelayOnAnyQueue,
		Echo: o.args.flag("echo"), IncludeClaimed: o.args.flag("include_claimed"), IncludeDelayed: o.args.flag("include_delayed"),
	}
	if list.Limit, err = o.args.limit(o.Limits.MaxMessagesPerPage); err != nil {
		return 0, err
	}
	var page projections.MessagePage
	resolved := true
	if marker := o.args.text("marker"); marker != "" {
		list.After, list.Marker, resolved = parseMarker(marker)
	}
	if resolved {
		if page, err = o.Views.Messages(o.ctx, list); err != nil {
			return 0, err
		}
	}
	return o.writeItems(page.Messages)
}

// writeItems answers with messages.
func (o *order) writeItems(messages []projections.Message) (status int, err error) {
	o.out = append(appendItems(append(o.out, '{'), messages), '}')
	return http.StatusOK, nil
}

// appendItems writes messages as the member of that name.
func appendItems(out []byte, messages []projections.Message) []byte {
	out = append(out, `"messages":[`...)
	for i, m := range messages {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendItem(out, m)
	}
	return append(out, ']')
}

// appendItem writes a message as WebSockets have it: with its claim and without an href.
func appendItem(out []byte, m projections.Message) []byte {
	out = append(appendUUID(append(out, `{"id":"`...), m.ID), `","claim_id":`...)
	if m.Claim == (domain.ClaimID{}) {
		out = append(out, "null"...)
	} else {
		out = append(appendUUID(append(out, '"'), m.Claim), '"')
	}
	out = strconv.AppendInt(append(out, `,"ttl":`...), int64(m.TTL), 10)
	out = strconv.AppendInt(append(out, `,"age":`...), int64(m.Age), 10)
	return append(append(append(out, `,"body":`...), m.Body...), '}')
}

// showMessage carries out message_get.
func (o *order) showMessage() (status int, err error) {
	id := o.args.text("message_id")
	found, err := o.findMessages(o.ctx, o.queue, parseIDs([]string{id}))
	if err != nil {
		return 0, err
	}
	if len(found) == 0 {
		return 0, domain.Errorf(domain.NotFound, "message %s is not in queue %s", id, o.queue.Name)
	}
	o.out = append(appendItem(append(o.out, `{"messages":`...), found[0]), '}')
	return http.StatusOK, nil
}

// showMessages carries out message_get_many.
func (o *order) showMessages() (status int, err error) {
	ids, err := o.args.texts("message_ids", o.Limits.MaxMessagesPerPage)
	if err != nil {
		return 0, err
	}
	found, err := o.findMessages(o.ctx, o.queue, parseIDs(ids))
	if err != nil {
		return 0, err
	}
	return o.writeItems(found)
}

// deleteMessage carries out message_delete.
func (o *order) deleteMessage() (status int, err error) {
	o.out = append(o.out, `{}`...)
	cmd := commands.DeleteMessage{Queue: o.queue}
	var ok bool
	if cmd.ID, ok = domain.ParseMessageID(o.args.text("message_id")); !ok {
		return http.StatusNoContent, nil
	}
	if named := o.args.text("claim_id"); named != "" {
		cmd.WithClaim = true
		cmd.Claim, _ = parseClaimID(named)
	}
	_, err = commands.Run(o.ctx, o.Executor, cmd)
	return http.StatusNoContent, err
}

// deleteMessages carries out message_delete_many, by ids or by pop.
func (o *order) deleteMessages() (status int, err error) {
	ids, err := o.args.texts("message_ids", o.Limits.MaxMessagesPerPage)
	if err != nil {
		return 0, err
	}
	var claims []string
	if o.DeleteWithClaim {
		if claims, err = o.args.texts("claim_ids", o.Limits.MaxMessagesPerPage); err != nil {
			return 0, err
		}
	}
	limit, pop, err := o.args.number("pop", o.Limits.MaxMessagesPerClaimOrPop)
	if err != nil {
		return 0, err
	}
	if err := checkDeletion("message_ids", len(ids) > 0, pop, len(claims) > 0, o.DeleteWithClaim); err != nil {
		return 0, err
	}
	if pop {
		messages, err := o.pop(o.ctx, o.queue, limit)
		if err != nil {
			return 0, err
		}
		return o.writeItems(messages)
	}
	o.out = append(o.out, `{}`...)
	cmd := commands.DeleteMessages{Queue: o.queue, IDs: parseIDs(ids), Claims: parseClaimIDs(claims), Held: o.DeleteWithClaim}
	if len(cmd.IDs) > 0 {
		_, err = commands.Run(o.ctx, o.Executor, cmd)
	}
	return http.StatusNoContent, err
}
