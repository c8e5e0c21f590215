package commands

import (
	"context"
	"fmt"
	"time"

	"nabu/eventstore"
)

// goLong takes the lock, sees what others have written, loads what is not in
// memory, decides, writes and commits.
func (e *Executor) goLong(ctx context.Context, w *work) (Way, error) {
	head, now, committed, err := e.lock(ctx, w)
	if err != nil || committed {
		return LongWay, err
	}
	if err := e.load(ctx, w, now); err != nil {
		return LongWay, err
	}
	if err := e.decide(w, head, now); err != nil {
		return LongWay, err
	}
	if head, err = e.write(ctx, w, head); err != nil {
		return LongWay, err
	}
	kept, err := e.keep(ctx, w, now)
	if err != nil {
		return LongWay, err
	}
	way, how := LongWay, "COMMIT"
	if len(w.batch.Events) == 0 && !kept {
		way, how = NoWay, "ROLLBACK"
	}
	w.uncertain = len(w.batch.Events) > 0
	if err := e.end(ctx, how); err != nil {
		return way, err
	}
	w.uncertain = false
	e.committed(w, head)
	e.forgetDestroyed(w.state)
	return way, nil
}

// committed remembers what a batch has made of the ledger.
func (e *Executor) committed(w *work, head eventstore.Head) {
	e.memory.install(w.state, head)
	e.Recent.Add(&w.batch, head)
}

// lock begins the transaction, brings the memory to the ledger's head and tells the time
// of the batch. Was the last try committed after all, there is nothing more to do.
func (e *Executor) lock(ctx context.Context, w *work) (head eventstore.Head, now time.Time, committed bool, err error) {
	tail, err := eventstore.Begin(ctx, e.conn, e.memory.provable())
	if err != nil {
		e.forget() // so that the next try asks for nothing that may be in the way
		return head, now, false, err
	}
	if committed, err = e.wasCommitted(ctx, w); err != nil {
		return head, now, false, err
	} else if committed {
		e.forget()
		return head, now, true, e.end(ctx, "ROLLBACK")
	}
	e.alone = !tail.Lost && len(tail.Events) == 0
	if tail.Lost {
		e.distrust() // another ledger was restored
	}
	e.memory.catchUp(tail)
	if err := e.lowerMarks(ctx); err != nil {
		return head, now, false, err
	}
	e.forgetKeys(tail)
	if !w.complete { // more have come while another replica held the lock
		e.gather(w)
	}
	e.clock.set(tail.Now)
	if now = tail.Now; e.Now != nil {
		now = after(tail.Head, e.Now())
	}
	return tail.Head, now, false, nil
}

// wasCommitted tells whether the last try was committed although its answer was lost.
// It is asked behind the lock, which waits for that try's transaction to end.
func (e *Executor) wasCommitted(ctx context.Context, w *work) (bool, error) {
	if !w.uncertain {
		return false, nil
	}
	at, found, err := eventstore.FindBatch(ctx, e.conn, w.batch.Head.Position, w.batch.ID)
	if err != nil {
		return false, err
	}
	w.uncertain = false
	if found {
		e.Log.Info("the batch was committed although its answer was lost", "batch", w.batch.ID, "at", at)
	}
	return found, nil
}

// after is the clock, or just behind the ledger's last event where the clock is not.
func after(head eventstore.Head, now time.Time) time.Time {
	if earliest := head.Time.Add(time.Microsecond); now.Before(earliest) {
		return earliest
	}
	return now
}

func (e *Executor) end(ctx context.Context, how string) error {
	if _, err := e.conn.ExecContext(ctx, how); err != nil {
		return fmt.Errorf("%s: %w", how, err)
	}
	return nil
}

// write appends the batch and applies it to the read models. It returns the head
// that the ledger has then.
func (e *Executor) write(ctx context.Context, w *work, head eventstore.Head) (eventstore.Head, error) {
	if len(w.batch.Events) == 0 {
		return head, nil
	}
	if at, covered, err := e.Projector.AppendAndApply(ctx, e.tx, &w.batch); covered || err != nil {
		if err != nil {
			return head, err
		}
		return w.batch.NewHead(at), nil
	}
	at, err := eventstore.Append(ctx, e.tx, &w.batch)
	if err != nil {
		return head, err
	}
	if err := e.Projector.Apply(ctx, e.conn, w.batch.Recorded(at)); err != nil {
		return head, err
	}
	return w.batch.NewHead(at), nil
}
