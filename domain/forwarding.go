package domain

import "slices"

// ExternalEventsForwarded: what has become of accepted events that another compute service
// was to get. It may have got them more than once.
type ExternalEventsForwarded struct {
	Server ServerID `json:"server"`
	// Status is that of the service's answer; 0: there was none as long as the events were
	// of use to anybody, or none that counts.
	Status int              `json:"status,omitempty"`
	Error  string           `json:"error,omitempty"` // why the service has not got them
	Events []ForwardedEvent `json:"events"`          // in the order of the accepted ones
}

// ForwardedEvent is one of the events.
type ForwardedEvent struct {
	ID   string    `json:"id"`
	Code EventCode `json:"code,omitempty"` // that the service gave it; 0: none
}

func (ExternalEventsForwarded) EventType() string { return "external-events.forwarded.v1" }
func (e ExternalEventsForwarded) Stream() string  { return ServerStream(e.Server) }

// MaxForwardError bounds why the service has not got events; bytes.
const MaxForwardError = 500

// ExternalEventsVersion is the least minor version, behind 2., that knows all these kinds.
func ExternalEventsVersion(names []string) (minor int) {
	minor = ExternalEventNames[0].Since
	for _, its := range ExternalEventNames {
		if slices.Contains(names, its.Name) {
			minor = max(minor, its.Since)
		}
	}
	return minor
}
