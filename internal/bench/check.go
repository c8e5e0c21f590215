package bench

import (
	"context"
	"errors"
	"fmt"
)

// Check compares what was acknowledged with what is there.
type Check struct {
	Acknowledged int `json:"acknowledged"`
	Lost         int `json:"lost"`       // acknowledged, not deleted, and not in the queue
	Doubled      int `json:"doubled"`    // in the queue more than once
	Disordered   int `json:"disordered"` // behind a later message of the same connection
	Unconfirmed  int `json:"unconfirmed"`
	ByID         int `json:"by_id"`      // acknowledged messages that were asked for by id
	LostByID     int `json:"lost_by_id"` // and not found, though nobody deleted them
	Walked       int `json:"walked"`     // messages that were listed

	Claimed       int `json:"claimed"`         // messages that were handed out by claims
	ClaimedTwice  int `json:"claimed_twice"`   // once more, while the first claim lived
	Deleted       int `json:"deleted"`         // messages whose deletion was acknowledged
	Undeleted     int `json:"undeleted"`       // and that are in the queue all the same
	UndeletedByID int `json:"undeleted_by_id"` // or found by id
	Miscounted    int `json:"miscounted"`      // by how many the queue's own figures are wrong
}

// Err tells what is wrong, if anything is.
func (c Check) Err() error {
	var problems []error
	if c.Lost+c.Doubled+c.Disordered+c.LostByID > 0 {
		problems = append(problems, fmt.Errorf("of %d acknowledged messages %d are lost (%d of %d asked for by id), %d doubled, %d out of order",
			c.Acknowledged, c.Lost, c.LostByID, c.ByID, c.Doubled, c.Disordered))
	}
	if c.ClaimedTwice > 0 {
		problems = append(problems, fmt.Errorf("of %d messages that were claimed %d were in two live claims", c.Claimed, c.ClaimedTwice))
	}
	if c.Undeleted+c.UndeletedByID > 0 {
		problems = append(problems, fmt.Errorf("of %d messages whose deletion was acknowledged %d are there (%d by id)",
			c.Deleted, c.Undeleted, c.UndeletedByID))
	}
	if c.Miscounted > 0 {
		problems = append(problems, fmt.Errorf("the statistics are wrong by %d messages", c.Miscounted))
	}
	return errors.Join(problems...)
}

// Add adds another check's figures.
func (c *Check) Add(other Check) {
	c.Acknowledged += other.Acknowledged
	c.Lost += other.Lost
	c.Doubled += other.Doubled
	c.Disordered += other.Disordered
	c.Unconfirmed += other.Unconfirmed
	c.ByID += other.ByID
	c.LostByID += other.LostByID
	c.Walked += other.Walked
	c.Claimed += other.Claimed
	c.ClaimedTwice += other.ClaimedTwice
	c.Deleted += other.Deleted
	c.Undeleted += other.Undeleted
	c.UndeletedByID += other.UndeletedByID
	c.Miscounted += other.Miscounted
}

// fate is what is known of a message that was sent.
type fate uint8

const (
	isListed fate = 1 << iota
	isClaimed
	isDeleted
	mayBeDeleted
)

// fates are those of each connection's messages.
type fates [][]fate

// fates are what the load itself knows, before anybody looks.
func (p *Posted) fates() fates {
	f := make(fates, len(p.posters))
	for i, poster := range p.posters {
		f[i] = make([]fate, poster.requests*poster.load.PerRequest)
	}
	if !p.purged {
		return f
	}
	for i, poster := range p.posters {
		for _, request := range poster.acked {
			for n := range poster.load.PerRequest {
				f[i][request*poster.load.PerRequest+n] = isDeleted
			}
		}
	}
	return f
}

// of finds a message's; nil: it was never sent.
func (f fates) of(connection, number int) *fate {
	if connection >= len(f) || number >= len(f[connection]) {
		return nil
	}
	return &f[connection][number]
}

// Check walks through all queues and asks for a sample of the messages by id. What
// was acknowledged must be there, unless it was deleted; then it must not. pageSize
// is how many messages a page may have there.
func (p *Posted) Check(ctx context.Context, address string, pageSize int) (Check, error) {
	c := newConn(address, requestTimeout)
	defer c.close()
	check := Check{Acknowledged: p.Acknowledged()}
	fates := p.fates()
	for _, consumer := range p.consumers {
		if err := check.hear(consumer, fates); err != nil {
			return check, err
		}
	}
	for q := range p.queues {
		if err := p.walk(ctx, c, p.queue(q), pageSize, fates, &check); err != nil {
			return check, err
		}
	}
	for i, poster := range p.posters {
		check.compare(fates[i], poster)
	}
	return check, p.checkIDs(ctx, c, fates, &check)
}

// hear notes what a consumer was handed and what it deleted. No claim ends while a
// load runs, so nothing may be handed out a second time.
func (c *Check) hear(from *consumer, fates fates) error {
	for _, h := range from.log {
		f := fates.of(int(h.poster), int(h.number))
		if f == nil {
			return fmt.Errorf("a claim handed out a message that was never sent: %d-%d", h.poster, h.number)
		}
		c.Claimed++
		if *f&isClaimed != 0 {
			c.ClaimedTwice++
		}
		*f |= isClaimed
		switch h.end {
		case deleted:
			*f |= isDeleted
		case unsure:
			*f |= mayBeDeleted
		}
	}
	c.Disordered += from.disordered
	return nil
}

// compare looks for one connection's acknowledged messages among those listed.
func (c *Check) compare(fates []fate, from *poster) {
	confirmed := 0
	for _, request := range from.acked {
		for n := range from.load.PerRequest {
			f := fates[request*from.load.PerRequest+n]
			if f&isListed != 0 {
				confirmed++
			} else if f&(isDeleted|mayBeDeleted) == 0 {
				c.Lost++
			}
		}
	}
	for _, f := range fates {
		if f&isListed != 0 {
			c.Unconfirmed++
		}
		if f&isDeleted != 0 {
			c.Deleted++
		}
		if f&isListed != 0 && f&isDeleted != 0 {
			c.Undeleted++
		}
	}
	c.Unconfirmed -= confirmed
}
