package inspect

import (
	"cmp"
	"fmt"
	"slices"
)

// A Level says how bad a Finding is.
type Level string

// The levels of findings, the worst first.
const (
	Error   Level = "error"   // the machine does not boot
	Warning Level = "warning" // something does not work, or may not
	Note    Level = "note"    // for whom wants to know
)

// A Finding is one thing that Check has found out.
type Finding struct {
	Level   Level  `json:"level"`
	Kind    string `json:"kind"`    // "archive", "init", "shell", "release", "module", "device", "need", "firmware" or "config"
	Subject string `json:"subject"` // the file, module, alias or option that it is about
	Text    string `json:"text"`
}

func (f Finding) String() string { return fmt.Sprintf("%s: %s: %s", f.Level, f.Subject, f.Text) }

// A Report is what Check answers.
type Report struct {
	Summary
	Maker    string    `json:"maker"`             // "hapax", "dracut", "initramfs-tools", "booster", "mkinitcpio" or ""
	Release  string    `json:"release"`           // of the kernel that the image is for, "" if it has no modules
	Machine  string    `json:"machine,omitempty"` // as Target.Name has it
	Devices  *Devices  `json:"devices,omitempty"` // nil without a machine
	Findings []Finding `json:"findings"`          // the worst first
}

// Devices counts the aliases of a machine's devices by what becomes of them.
type Devices struct {
	Total   int       `json:"total"`
	Served  int       `json:"served"`   // a module of the image takes them
	Builtin int       `json:"built_in"` // the kernel itself does
	Barred  int       `json:"barred"`   // the image has a module and blacklists it
	Left    []LeftOut `json:"left_out"` // the kernel has modules for them and the image does not
	Unknown []string  `json:"unknown"`  // nothing that is known takes them: no driver is needed, or the kernel has none
}

// A LeftOut is a module that devices of the machine would take and that the image does not have.
type LeftOut struct {
	Module  string   `json:"module"`
	Aliases []string `json:"aliases"`
	Usual   bool     `json:"usual"` // images for this machine have it
}

// Worst returns the level of the worst finding, "" if there is none.
func (r *Report) Worst() Level {
	if len(r.Findings) == 0 {
		return ""
	}
	return r.Findings[0].Level
}

func (r *Report) find(level Level, kind, subject, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{level, kind, subject, fmt.Sprintf(format, args...)})
}

// sort brings the findings into their order: by level, then as they were found.
func (r *Report) sort() {
	rank := func(f Finding) int { return slices.Index([]Level{Error, Warning, Note}, f.Level) }
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(rank(a), rank(b)) })
}
