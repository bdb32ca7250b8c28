package rclone

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config"
	"github.com/rclone/rclone/fs/config/configmap"
	"github.com/rclone/rclone/fs/fspath"
)

// withoutOptions is err without the values of a remote's options: any may be a secret,
// and rclone quotes those that it cannot read.
func withoutOptions(remote string, err error) error {
	values := optionValues(remote, 0)
	slices.SortFunc(values, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // one may be in another
	text := err.Error()
	for _, v := range values {
		quoted := strconv.Quote(v)
		text = strings.ReplaceAll(text, quoted, `"…"`)
		if len(v) > 3 { // shorter ones are in words too
			text = strings.ReplaceAll(text, v, "…")
			text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], "…")
		}
	}
	return &failure{text: text, errs: []error{err}}
}

// optionValues are those that the connection string, rclone.conf and the environment give,
// and those of remotes that these name in turn.
func optionValues(remote string, depth int) []string {
	parsed, err := fspath.Parse(remote)
	if err != nil || depth > 3 {
		return nil
	}
	values := slices.Collect(maps.Values(parsed.Config))
	for _, key := range config.LoadedData().GetKeyList(parsed.Name) {
		if v, _ := config.LoadedData().GetValue(parsed.Name, key); key != "type" {
			values = append(values, v)
		}
	}
	if backend, _, _, m, err := fs.ConfigFs(remote); err == nil {
		for _, o := range backend.Options {
			v, _ := m.GetPriority(o.Name, configmap.PriorityConfig) // else its default
			values = append(values, v)
		}
	}
	for _, v := range slices.Clone(values) {
		values = append(values, optionValues(v, depth+1)...)
	}
	return slices.DeleteFunc(values, func(v string) bool { return v == "" })
}
