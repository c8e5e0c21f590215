package projections

// mentions has a row for each key that a slice of history speaks of, in the order of first
// mention. Its zero value has none.
type mentions[K comparable, R any] struct {
	rows  []*R
	byKey map[K]*R
}

// of finds the row of a key, or adds one that is zero.
func (m *mentions[K, R]) of(key K) *R {
	row := m.byKey[key]
	if row == nil {
		if m.byKey == nil { // most slices do not mention most kinds of rows
			m.byKey = map[K]*R{}
		}
		row = new(R)
		m.byKey[key] = row
		m.rows = append(m.rows, row)
	}
	return row
}
