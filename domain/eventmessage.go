package domain

import "cmp"

// eventMessages are the entries of the catalogue that users would have been told of by the
// volume service, if it were told that an event was rejected as it once was.
var eventMessages = map[string]struct{ action, detail string }{
	volumeExtended: {"007", "009"},
	volumeReimaged: {"016", "028"},
}

// Messages are what users are told of rejected events of volumes: in the project of the
// server, which is the volume's, or in that of whoever told of the events if nobody has said
// whose the server is. A volume of which several
// events are rejected is told of once. What cannot be told is not.
func (r EventRules) Messages(d Dispatch, codes []EventCode, server func(ServerID) Server, u UserMessageRules, at Moment) (events []Event) {
	if !r.ToMessages {
		return nil
	}
	type told struct{ name, volume string }
	known := map[told]bool{}
	for i, e := range d.Events {
		entry, its := eventMessages[e.Name]
		if !its || e.Tag == nil || codes[i] != EventHasNoOwner && codes[i] != EventHasNoHost || known[told{e.Name, *e.Tag}] {
			continue
		}
		recorded, err := RecordUserMessage(NewUserMessage{
			Project: cmp.Or(server(e.Server).Project, d.Project), ID: e.ID, Action: entry.action, Detail: entry.detail, ResourceType: "VOLUME", ResourceUUID: *e.Tag,
			BroughtRequestID: d.RequestID, BroughtGlobalRequestID: d.GlobalRequestID,
		}, u, at.Time)
		if err == nil {
			known[told{e.Name, *e.Tag}] = true
			events = append(events, recorded)
		}
	}
	return events
}
