package strict

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type word string

func (w *word) UnmarshalText(text []byte) error {
	if string(text) != "good" {
		return errors.New("use good")
	}
	*w = word(text)
	return nil
}

type number int

func (n *number) UnmarshalText(text []byte) error {
	_, err := fmt.Sscanf(string(text), "no. %d", (*int)(n))
	return err
}

// anything takes every text, and so that of a number.
type anything struct{ text string }

func (a *anything) UnmarshalText(text []byte) error {
	a.text = string(text)
	return nil
}

type document struct {
	Word   word   `toml:"word"`
	Number number `toml:"number"`
	Hidden string `toml:"-"`
	Table  struct {
		Words []word `toml:"words"`
	} `toml:"table"`
	List []struct {
		Name string `toml:"name"`
		Word word   `toml:"word"`
	} `toml:"list"`
	Any []anything `toml:"any"`
}

func TestDecode(t *testing.T) {
	t.Parallel()
	var d document
	text := "word = \"good\"\nnumber = \"no. 7\"\n[table]\nwords = [\"good\", \"good\"]\n[[list]]\nname = \"a\"\n[[list]]\nname = \"b\"\n"
	if err := Decode("f", []byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if d.Word != "good" || d.Number != 7 || len(d.Table.Words) != 2 || len(d.List) != 2 || d.List[1].Name != "b" {
		t.Errorf("decoded %+v", d)
	}
	if got := slices.Collect(Keys(reflect.TypeFor[*document]())); !slices.Equal(got, []string{"word", "number", "table", "list", "any"}) {
		t.Errorf("keys %q", got)
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"word = \"bad\"": "f:1:8: word: use good",
		"[table]\nwords = [\n\"good\",\n  \"bad\"]": "f:4:3: table.words: use good",
		"table.words = [\"bad\"]":                   "f:1:16: table.words: use good",
		"word = \"good\"\n[table]\n\nwrods = []":    "f:4:1: unknown key table.wrods",
		"[[list]]\nname = \"a\"\n[[list]]\nnam = 1": "f:4:1: unknown key list.nam; did you mean name?",
		"Hidden = \"x\"":                            "f:1:1: unknown key Hidden",
		"x = 1\ny = 2":                              "f:1:1: unknown key x\nf:2:1: unknown key y",
		"number = \"no. 1\"\nword = 3\n":            "f:2:1: use good",
		"list = [{name = \"a\"}, {word = \"bad\"}]": "f:1:31: list.word: use good",
		"table = {words = [\"bad\"]}":               "f:1:19: table.words: use good",
		"\nany = [\"x\", 7]":                        "f:2:1: any: a string is wanted: put it between quotes",
		"any = [true]\n\nany.x = 1":                 "f:3:1: any.x: key any is already defined",
		"any = [1.5]":                               "f:1:1: any: a string is wanted: put it between quotes",
	} {
		err := Decode("f", []byte(text), &document{})
		if err == nil {
			t.Errorf("Decode(%q) found nothing wrong", text)
			continue
		}
		if diff := cmp.Diff(want, err.Error()); diff != "" {
			t.Errorf("Decode(%q) (-want +got):\n%s", text, diff)
		}
	}
	err := Decode("f", []byte("\nword = "), &document{})
	if e, ok := errors.AsType[*Error](err); !ok || e.Line != 2 || e.File != "f" {
		t.Errorf("Decode of half a line = %v", err)
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	text := "# [[list]]\n[[list]]\nname = \"[[list]]\"\n[list.x]\n[[other]]\n\n  [[ list ]]\n[[\"list\"]]\n"
	if got := Tables([]byte(text), "list"); !slices.Equal(got, []int{2, 7, 8}) {
		t.Errorf("Tables = %v, want [2 7 8]", got)
	}
}
