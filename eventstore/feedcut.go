package eventstore

// cut is how slices are cut down behind one that was refused, to find the fault.
type cut struct {
	suspects int   // so many of the next events have one among them; 0: not known
	until    int64 // the end of the slice that was refused whole
}

// halve takes note that a slice of several events is refused.
func (c *cut) halve(events int, to int64) {
	c.suspects, c.until = events, max(c.until, to)
}

// passed takes note that events are handled, up to a position.
func (c *cut) passed(events int, to int64) {
	if c.suspects = max(c.suspects-events, 0); to >= c.until {
		*c = cut{}
	}
}

// found takes note that the fault is parked; there may be others.
func (c *cut) found(to int64) {
	c.suspects = 0
	c.passed(0, to)
}

// most is how many events the next slice has at most.
func (c *cut) most(usual int) int {
	if c.suspects == 0 {
		return usual
	}
	return min(max(c.suspects/2, 1), usual)
}

// tries is how often a slice of so many events is delivered. All parts of a refused one
// but the smallest are only to find out where the fault is.
func (c *cut) tries(events, usual int) int {
	if c.until > 0 && events > 1 {
		return 1
	}
	return usual
}
