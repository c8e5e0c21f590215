package projections

// Query is the statement of a page, for tests that ask what it costs.
func (l UserMessageList) Query() (statement string, args []any) {
	statement, args, _ = l.query()
	return statement, args
}
