package secrets_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"nabu/internal/pgtest"
	"nabu/internal/postgres"
	"nabu/internal/secrets"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestEverybodyGetsTheSameKey(t *testing.T) {
	database := pgtest.Open(t)
	keys := make([][]byte, 8)
	var asking sync.WaitGroup
	for i := range keys {
		asking.Go(func() {
			var err error
			if keys[i], err = secrets.Key(context.Background(), database.DB(), secrets.SignedURLs); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	for _, key := range keys {
		if len(key) != secrets.Size || !bytes.Equal(key, keys[0]) {
			t.Fatalf("keys %x", keys)
		}
	}
	other, err := secrets.Key(context.Background(), database.DB(), "another")
	if err != nil || bytes.Equal(other, keys[0]) {
		t.Fatalf("another name has the same key, error %v", err)
	}
}

// Whoever works with the database may neither change a key nor take it away.
func TestKeysStay(t *testing.T) {
	database := pgtest.Open(t)
	app, err := postgres.Open(database.URL(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	if _, err := secrets.Key(context.Background(), app, secrets.SignedURLs); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`UPDATE secrets.keys SET key = '\x00'`, `DELETE FROM secrets.keys`, `TRUNCATE secrets.keys`, `DROP TABLE secrets.keys`,
	} {
		if _, err := app.Exec(statement); err == nil {
			t.Errorf("%s is allowed", statement)
		}
	}
}
