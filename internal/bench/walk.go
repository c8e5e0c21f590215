package bench

import (
	"context"
	"fmt"
	"strings"
)

const (
	idsPerRequest = 20
	maxByID       = 10_000
)

// page is a page of messages, as far as the check is interested.
type page struct {
	Messages []struct {
		ID   string
		Href string
		Body struct{ N string }
	}
	Links []struct{ Rel, Href string }
}

// walk lists a queue from its first message to its last.
func (p *Posted) walk(ctx context.Context, c *conn, queue string, pageSize int, fates fates, check *Check) error {
	last := make([]int, len(p.posters))
	for i := range last {
		last[i] = -1
	}
	walked, claimed := 0, 0
	path := fmt.Sprintf("/v2/queues/%s/messages?limit=%d&echo=true&include_claimed=true&include_delayed=true", queue, pageSize)
	for ctx.Err() == nil {
		var answer page
		if err := get(c, path, &answer); err != nil {
			return err
		}
		if len(answer.Messages) == 0 {
			return p.checkStats(c, queue, walked, claimed, check)
		}
		for _, m := range answer.Messages {
			s, err := readStamp([]byte(m.Body.N))
			f := fates.of(s.connection, s.number)
			if err != nil || f == nil {
				return fmt.Errorf("queue %s holds a message that was never sent: %s", queue, m.ID)
			}
			walked++
			if strings.Contains(m.Href, "claim_id=") {
				claimed++
			}
			switch {
			case *f&isListed != 0:
				check.Doubled++
			case s.number < last[s.connection]:
				check.Disordered++
			}
			*f |= isListed
			last[s.connection] = max(last[s.connection], s.number)
		}
		check.Walked += len(answer.Messages)
		if path = nextPage(answer); path == "" {
			return fmt.Errorf("a page of queue %s has no link to the next", queue)
		}
	}
	return ctx.Err()
}

func nextPage(p page) string {
	for _, link := range p.Links {
		if link.Rel == "next" {
			return link.Href
		}
	}
	return ""
}

// stats are a queue's own figures.
type stats struct {
	Messages struct{ Claimed, Free, Total int }
}

// checkStats compares a queue's own figures with what was found in it, if anybody
// took messages out of it.
func (p *Posted) checkStats(c *conn, queue string, walked, claimed int, check *Check) error {
	if len(p.consumers) == 0 && !p.purged {
		return nil
	}
	var counted stats
	if err := get(c, statsPath(queue), &counted); err != nil {
		return err
	}
	m := counted.Messages
	check.Miscounted += max(abs(m.Claimed-claimed), abs(m.Free-(walked-claimed)), abs(m.Total-walked))
	return nil
}

func statsPath(queue string) string { return "/v2/queues/" + queue + "/stats" }

func abs(n int) int { return max(n, -n) }

// checkIDs asks by id for messages from all over the load.
func (p *Posted) checkIDs(ctx context.Context, c *conn, fates fates, check *Check) error {
	every := max(1, check.Acknowledged/maxByID)
	for at, poster := range p.posters {
		there := map[int][]string{} // in each queue
		gone := map[int][]string{}
		for i := 0; i < poster.acknowledged(); i += every {
			request := poster.acked[i/poster.load.PerRequest]
			queue := poster.load.queueOf(poster.connection, request)
			id := string(poster.ids[i*idLength:][:idLength])
			switch f := fates[at][request*poster.load.PerRequest+i%poster.load.PerRequest]; {
			case f&isDeleted != 0:
				gone[queue] = append(gone[queue], id)
			case f&mayBeDeleted == 0:
				there[queue] = append(there[queue], id)
			}
		}
		asked, found, err := p.askFor(ctx, c, there)
		check.ByID += asked
		check.LostByID += asked - found
		if err != nil {
			return err
		}
		_, found, err = p.askFor(ctx, c, gone)
		check.UndeletedByID += found
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// askFor asks queues for messages by id and tells how many they have.
func (p *Posted) askFor(ctx context.Context, c *conn, queues map[int][]string) (asked, found int, err error) {
	for queue, ids := range queues {
		for len(ids) > 0 && ctx.Err() == nil {
			n := min(idsPerRequest, len(ids))
			has, err := countOf(c, p.queue(queue), ids[:n])
			if err != nil {
				return asked, found, err
			}
			asked, found, ids = asked+n, found+has, ids[n:]
		}
	}
	return asked, found, nil
}

// countOf is how many of some messages a queue has.
func countOf(c *conn, queue string, ids []string) (found int, err error) {
	var answer page
	err = get(c, fmt.Sprintf("/v2/queues/%s/messages?ids=%s", queue, strings.Join(ids, ",")), &answer)
	if isNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	there := map[string]bool{}
	for _, m := range answer.Messages {
		there[m.ID] = true
	}
	for _, id := range ids {
		if there[id] {
			found++
		}
	}
	return found, nil
}
