package tojson

import (
	"encoding/json"
	"math"
	"testing"
)

type word int

func (w word) MarshalText() ([]byte, error) { return []byte{'w', byte('0' + w)}, nil }

type inner struct {
	A int     `json:"a"`
	F float64 `json:"f,omitempty"`
}

type outer struct {
	Name string `json:"name"`
	inner
	Untagged bool
	Word     word      `json:"word"`
	Words    []word    `json:"words,omitempty"`
	List     []inner   `json:"list"`
	Pair     [2]string `json:"pair"`
	To       *inner    `json:"to,omitempty"`
	Nil      *inner    `json:"nil"`
	Any      any       `json:"any"`
	Out      string    `json:"-"`
	Small    uint8     `json:"small,omitempty"`
	hidden   int
}

// What Marshal writes is what encoding/json writes.
func TestLikeEncodingJSON(t *testing.T) {
	t.Parallel()
	full := outer{"n", inner{1, 2.5}, true, 3, []word{1, 2}, []inner{{1, 0}, {0, 3}}, [2]string{"x", ""}, &inner{}, nil, "text", "out", 9, 1}
	for _, v := range []any{
		nil, true, -5, uint16(7), "", "plain", word(4), []int{}, []int(nil), [0]int{}, inner{}, &full, outer{}, full,
		struct{}{}, struct{ Any any }{}, []any{1, "two", nil, 3.5, inner{}},
		0.0, 1.0, 1e-7, 1.5e-10, 1e21, 123456789.125, -1e-300, math.MaxFloat64, math.SmallestNonzeroFloat64, 1e20,
	} {
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got := Marshal(v); string(got) != string(want) {
			t.Errorf("Marshal(%#v) =\n%s, want\n%s", v, got, want)
		}
	}
}

func TestNoSuchNumber(t *testing.T) {
	t.Parallel()
	if got := Marshal([]float64{math.NaN(), math.Inf(-1)}); string(got) != "[null,null]" {
		t.Errorf("Marshal = %s", got)
	}
}

func TestNoForm(t *testing.T) {
	t.Parallel()
	for _, v := range []any{make(chan int), map[string]int{}, []byte("x"), func() {}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Marshal(%T) did not panic", v)
				}
			}()
			Marshal(v)
		}()
	}
}

func FuzzMarshal(f *testing.F) {
	f.Add("text", 1.5)
	f.Add("\"\\\n\r\t\b\f\x00\x1f\x7f<>&\u2028\u2029é\xff\xc3", -0.0)
	f.Add("\xe2\x80", 1e-9)
	f.Fuzz(func(t *testing.T, s string, x float64) {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return
		}
		v := struct {
			S string
			X float64
		}{s, x}
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got := Marshal(v); string(got) != string(want) {
			t.Errorf("Marshal(%+q, %v) = %s, want %s", s, x, got, want)
		}
	})
}
