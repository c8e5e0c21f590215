package domain

// ReadModelsRebuilt: read models were made anew out of the history, and took the place
// of those that were there. Whoever remembers what stood in them has to look again.
type ReadModelsRebuilt struct {
	Projections []string `json:"projections"` // by their names
}

func (ReadModelsRebuilt) EventType() string { return "read-models.rebuilt.v1" }
func (ReadModelsRebuilt) Stream() string    { return "read-models" } // of all of them
