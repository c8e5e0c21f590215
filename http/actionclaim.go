package http

import (
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
)

// claimMessages carries out claim_create.
func (o *order) claimMessages() (status int, err error) {
	if err := o.refuseWait(); err != nil {
		return 0, err
	}
	asked, err := o.readClaim(o.body)
	if err != nil {
		return 0, err
	}
	limit, err := o.args.limit(o.Limits.MaxMessagesPerClaimOrPop)
	if err != nil {
		return 0, err
	}
	claim, err := uuid.NewV7()
	if err != nil {
		return 0, err
	}
	taken, err := commands.Run(o.ctx, o.Executor, commands.ClaimMessages{Queue: o.queue, Claiming: domain.Claiming{
		Claim: claim, Life: asked.life, Limit: limit,
	}})
	if err != nil {
		return 0, err
	}
	messages, err := o.withBodies(o.ctx, o.queue, taken)
	if err != nil {
		return 0, err
	}
	if len(messages) == 0 {
		o.out = append(o.out, `{"claim_id":null,"messages":[]}`...)
		return http.StatusNoContent, nil
	}
	o.out = appendUUID(append(o.out, `{"claim_id":"`...), messages[0].Claim)
	o.out = append(appendItems(append(o.out, `",`...), messages), '}')
	return http.StatusCreated, nil
}

// claimRef is the claim that the frame names. What is no id names none.
func (o *order) claimRef() (domain.ClaimRef, bool) {
	id, ok := parseClaimID(o.args.text("claim_id"))
	return domain.ClaimRef{Queue: o.queue, ID: id}, ok
}

// showClaim carries out claim_get.
func (o *order) showClaim() (status int, err error) {
	ref, ok := o.claimRef()
	if !ok {
		return 0, errNoClaim
	}
	claim, exists, err := o.Views.Claim(o.ctx, ref)
	if err != nil {
		return 0, err
	}
	if !exists {
		return 0, errNoClaim
	}
	for i := range claim.Messages {
		claim.Messages[i].Claim = ref.ID
	}
	o.out = strconv.AppendInt(append(o.out, `{"age":`...), int64(claim.Age), 10)
	o.out = strconv.AppendInt(append(o.out, `,"ttl":`...), int64(claim.TTL), 10)
	o.out = append(appendItems(append(o.out, ','), claim.Messages), '}')
	return http.StatusOK, nil
}

// renewClaim carries out claim_update.
func (o *order) renewClaim() (status int, err error) {
	asked, err := o.readClaim(o.body)
	if err != nil {
		return 0, err
	}
	ref, ok := o.claimRef()
	if !ok {
		return 0, errNoClaim
	}
	if _, err := commands.Run(o.ctx, o.Executor, commands.RenewClaim{Queue: ref.Queue, Claim: ref.ID, Life: asked.life}); err != nil {
		return 0, err
	}
	o.say("Claim " + ref.ID.String() + " updated.")
	return http.StatusNoContent, nil
}

// releaseClaim carries out claim_delete.
func (o *order) releaseClaim() (status int, err error) {
	if ref, ok := o.claimRef(); ok {
		if _, err := commands.Run(o.ctx, o.Executor, commands.ReleaseClaim{Queue: ref.Queue, Claim: ref.ID}); err != nil {
			return 0, err
		}
	}
	o.say("Claim " + o.args.text("claim_id") + " deleted.")
	return http.StatusNoContent, nil
}
