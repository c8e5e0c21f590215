package commands

import "nabu/domain"

// ClaimMessages asks for the oldest free messages of a queue, for a while. The answer
// is the messages; none: there is no claim.
type ClaimMessages struct {
	Queue domain.QueueID
	domain.Claiming
}

// Needs: the queue and its oldest free messages.
func (c ClaimMessages) Needs() Needs {
	return Needs{Queue: c.Queue, Free: c.Limit, Rank: Takes, Size: rowSize * c.Limit}
}

// Decide hands out the oldest free messages. Those that were claimed too often move
// to the dead letter queue instead. With nothing to hand out there is nothing to
// record. Of a queue that hands tasks out it is decided what becomes of the tasks as well.
func (c ClaimMessages) Decide(s *State, at domain.Moment) ([]Taken, []domain.Event, error) {
	if err := c.Life.Check(s.Limits); err != nil {
		return nil, nil, err
	}
	q := s.Queue(c.Queue)
	_, target := q.DeadLettering()
	deadLetters := s.Queue(domain.QueueID{Project: c.Queue.Project, Name: target})
	var taken []domain.Message
	var events []domain.Event
	if s.rules.HandsOut(c.Queue) {
		var dropped bool
		taken, events, dropped = q.ClaimTasks(c.Queue, c.Claiming, s.Free(c.Queue), deadLetters, s.taskOf, s.rules, at)
		events = s.handedOut(c.Queue, events, dropped && len(taken) < c.Limit, at)
	} else {
		taken, events = q.Claim(c.Queue, c.Claiming, s.Free(c.Queue), deadLetters, at)
	}
	if err := s.checkOpens(taken); err != nil {
		return nil, nil, err
	}
	return takenOf(taken, at.Time), events, nil
}

// RenewClaim asks for a live claim to begin anew, with another life.
type RenewClaim struct {
	Queue domain.QueueID
	Claim domain.ClaimID
	Life  domain.ClaimLife
}

// Needs: the queue and the claim.
func (c RenewClaim) Needs() Needs {
	return Needs{Queue: c.Queue, Claim: c.Claim, Rank: Frees, Size: rowSize * typicalClaim}
}

// typicalClaim is how many messages a claim holds at most if nobody has raised that.
const typicalClaim = 20

// Decide renews the claim, or refuses with domain.NotFound when it is over.
func (c RenewClaim) Decide(s *State, at domain.Moment) (done struct{}, events []domain.Event, err error) {
	if err := c.Life.Check(s.Limits); err != nil {
		return done, nil, err
	}
	events, err = s.Queue(c.Queue).Renew(c.Queue, s.Claim(c.Queue, c.Claim), c.Life, at)
	return done, events, err
}

// ReleaseClaim asks for a claim to be given up. The answer tells whether there was a
// live one.
type ReleaseClaim struct {
	Queue domain.QueueID
	Claim domain.ClaimID
}

// Needs: the queue and the claim.
func (c ReleaseClaim) Needs() Needs {
	return Needs{Queue: c.Queue, Claim: c.Claim, Rank: Frees, Size: rowSize * typicalClaim}
}

// Decide frees what the claim still holds.
func (c ReleaseClaim) Decide(s *State, _ domain.Moment) (released bool, events []domain.Event, err error) {
	events = s.Queue(c.Queue).Release(c.Queue, s.Claim(c.Queue, c.Claim))
	return len(events) > 0, events, nil
}
