// Package pgrows reads the rows of a statement to their end, as pgarray writes arrays
// into one. It knows nothing of what is read.
package pgrows

import (
	"database/sql"
	"fmt"
)

// Each calls read for each row, in order, and closes the rows: read scans the row that it
// is called for. rows and err are what the statement has returned. An error says what was
// being done; read's own ends the reading.
func Each(doing string, rows *sql.Rows, err error, read func() error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := read(); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// Collect is Each for rows that become one value each; nil: there were none.
func Collect[T any](doing string, rows *sql.Rows, err error, read func(*T) error) (all []T, _ error) {
	err = Each(doing, rows, err, func() error {
		var one T
		if err := read(&one); err != nil {
			return err
		}
		all = append(all, one)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
