package devices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/conform"
)

// verdictsFile is in the state directory: what was found out about devices. It is
// kept by device, driver, contract, kernels and build, because each of them may
// change what a device gives.
const verdictsFile = "devices.json"

// maxVerdicts bounds the file: those of builds and drivers of long ago go.
const maxVerdicts = 64

// unended is how often a check of a device may begin without an end: a driver that
// takes the process down with it would do so at every start.
const unended = 2

// verdict is what a check of one device has found.
type verdict struct {
	Key    string `json:"key"`
	Passed bool   `json:"passed"`
	Reason string `json:"reason,omitempty"` // why it did not pass
	Begun  int    `json:"begun,omitempty"`  // checks that began since one has ended
}

// verdicts are the file's, the latest last.
type verdicts struct {
	path string
	list []verdict
}

func readVerdicts(dir string) *verdicts {
	v := &verdicts{path: filepath.Join(dir, verdictsFile)}
	if b, err := os.ReadFile(v.path); err == nil && json.Unmarshal(b, &v.list) != nil {
		v.list = nil // a damaged file costs a check
	}
	return v
}

func (v *verdicts) of(key string) verdict {
	for _, one := range v.list {
		if one.Key == key {
			return one
		}
	}
	return verdict{Key: key}
}

// put keeps a verdict. That it cannot be written costs a check at the next start.
func (v *verdicts) put(one verdict) {
	list := make([]verdict, 0, len(v.list)+1)
	for _, o := range v.list {
		if o.Key != one.Key {
			list = append(list, o)
		}
	}
	v.list = append(list, one)
	v.list = v.list[max(0, len(v.list)-maxVerdicts):]
	b, err := json.MarshalIndent(v.list, "", "  ")
	if err != nil {
		return
	}
	tmp := v.path + ".tmp"
	if os.WriteFile(tmp, b, 0o600) == nil {
		_ = os.Rename(tmp, v.path)
	}
}

// refusedError says why a device is not computed on.
type refusedError struct{ reason string }

func (e *refusedError) Error() string { return e.reason }

// hold lets a device compute only when it keeps the contract: it is checked when no
// verdict of its key is kept, or when again is set. The error is a *refusedError, or
// ctx's.
func (v *verdicts) hold(ctx context.Context, key string, again bool, open func() (kernels.Device, error), tell func(string)) (kernels.Device, error) {
	old := v.of(key)
	switch {
	case again:
		old = verdict{Key: key}
	case old.Reason != "":
		return nil, &refusedError{old.Reason}
	case old.Begun >= unended:
		return nil, &refusedError{"its driver ended the program while it was checked; update the driver, then run `weft doctor gpu`"}
	}
	begun := verdict{Key: key, Passed: old.Passed, Begun: old.Begun + 1}
	if !old.Passed {
		v.put(begun)
	}
	d, err := open()
	if err == nil && !old.Passed {
		if err = conform.Check(ctx, d, conform.Quick, tell); err != nil {
			_ = d.Close()
		}
	}
	now := verdict{Key: key, Passed: err == nil}
	var differs *conform.Difference
	switch {
	case err == nil:
	case ctx.Err() != nil: // nothing was found out
		v.put(old)
		return nil, ctx.Err()
	case errors.As(err, &differs):
		now.Reason = "it does not keep the arithmetic contract with this driver: " + brief(err)
		v.put(now)
		return nil, &refusedError{now.Reason}
	default: // a device that cannot be opened now may be later
		v.put(old)
		return nil, &refusedError{"it cannot be opened: " + brief(err)}
	}
	if !old.Passed {
		v.put(now)
	}
	return d, nil
}

// maxReason bounds what of a driver's words is kept and shown.
const maxReason = 300

// brief is an error on one line.
func brief(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}

// keyOf names a device, its driver and what runs on it. A build without a version
// of its own is told by its file.
func keyOf(version, program, device string) string {
	if version == "dev" || strings.HasSuffix(version, "-dirty") || version == "" {
		if path, err := os.Executable(); err == nil {
			if st, err := os.Stat(path); err == nil {
				version = fmt.Sprintf("%s %d %d", version, st.Size(), st.ModTime().UnixNano())
			}
		}
	}
	return fmt.Sprintf("%s|contract %d|%s|%s", device, kernels.ContractVersion, program, version)
}
