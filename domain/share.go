package domain

import "time"

// ShareRevoked: a client took one signed URL of a queue back before its end. The URL
// itself is not said, so that the history gives nobody what it allowed.
type ShareRevoked struct {
	Project string    `json:"project"`
	Queue   string    `json:"queue"`
	Digest  string    `json:"digest"` // SHA-256 of the signature, 64 hexadecimal digits
	Expires time.Time `json:"expires"`
}

func (ShareRevoked) EventType() string { return "share.revoked.v1" }
func (e ShareRevoked) Stream() string  { return QueueID{e.Project, e.Queue}.Stream() }

// SharesRevoked: a client took all signed URLs of a queue back that there were.
type SharesRevoked struct {
	Project string `json:"project"`
	Queue   string `json:"queue"`
}

func (SharesRevoked) EventType() string { return "shares.revoked.v1" }
func (e SharesRevoked) Stream() string  { return QueueID{e.Project, e.Queue}.Stream() }

// Share names a signed URL of a queue.
type Share struct {
	Queue   QueueID
	Digest  string // SHA-256 of the signature, 64 hexadecimal digits
	Expires time.Time
}

// ShareKey tells a signed URL apart from those of all queues.
type ShareKey struct {
	Queue  QueueID
	Digest string
}

// Key is what tells the signed URL apart.
func (s Share) Key() ShareKey { return ShareKey{s.Queue, s.Digest} }

// Revoke decides what a request to take the signed URL back records. One that is over by
// itself, or was taken back before, records nothing.
func (s Share) Revoke(before bool, now time.Time) []Event {
	if before || !s.Expires.After(now) {
		return nil
	}
	return []Event{ShareRevoked{Project: s.Queue.Project, Queue: s.Queue.Name, Digest: s.Digest, Expires: s.Expires.UTC()}}
}

// RevokeShares decides what a request to take all signed URLs of a queue back records.
// Nobody knows whether there are any, so it always does. The queue need not be there.
func RevokeShares(id QueueID) []Event {
	return []Event{SharesRevoked{Project: id.Project, Queue: id.Name}}
}
