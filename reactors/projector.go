package reactors

import (
	"database/sql"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"nabu/eventstore"
	"nabu/projections"
)

// Projector lets a projection follow the feed. The tables are the projection's own
// business.
type Projector struct {
	Projection projections.Projection
	DB         *sql.DB
}

// React is called with each slice of the events that the projection is made of.
func (p Projector) React(msg *message.Message) error {
	slice, ok := eventstore.SliceOf(msg)
	if !ok {
		return fmt.Errorf("message %s carries no slice of the ledger", msg.UUID)
	}
	return p.Projection.Follow(msg.Context(), p.DB, slice)
}
