package bench

import (
	"testing"
	"time"
)

func TestStampsAreReadBack(t *testing.T) {
	now := time.Now()
	want := stamp{connection: 17, number: 1_234_567, sent: now.UnixMicro()}
	text := []byte(stampPlace + `","pad":"`)
	want.write(text)
	if got, err := readStamp(text); err != nil || got != want {
		t.Errorf("read %+v from %s, not %+v; error %v", got, text, want, err)
	}
	if age := want.age(now.Add(30 * time.Millisecond)); age.Round(time.Millisecond) != 30*time.Millisecond {
		t.Errorf("it is %v old, not 30 ms", age)
	}
	for _, text := range []string{"", "0000-0000000000", "0000+0000000000-0000000000000000", "0000-00000000x0-0000000000000000"} {
		if _, err := readStamp([]byte(text)); err == nil {
			t.Errorf("%q passes for a stamp", text)
		}
	}
}
