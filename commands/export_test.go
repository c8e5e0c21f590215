package commands

// LoadsAhead tells whether free messages are being loaded ahead, or are there and not yet taken
// in. Nobody else may use the executor meanwhile.
func (e *Executor) LoadsAhead() bool { return e.scout.load != nil }

// LoadedAhead tells whether they are there.
func (e *Executor) LoadedAhead() bool { return len(e.scout.load.found) == 1 }
