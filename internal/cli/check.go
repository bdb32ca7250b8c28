package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store/disk"
)

type check struct {
	Disk checkDisk `cmd:"" help:"Verify every record of a disk, and say what is there and what is damaged."`
}

type checkDisk struct {
	Dir    string `arg:"" name:"dir" help:"The folder that serve --disk was given."`
	Repair bool   `help:"Forget what is damaged, so that it is not even tried."`
}

func (*checkDisk) examples() [][2]string {
	return [][2]string{
		{"larder check disk /var/cache/larder", "while no larder uses it"},
		{"larder check disk /var/cache/larder --repair", "and forget what is damaged"},
	}
}

func (*checkDisk) more() string {
	return `Nothing that is damaged is ever served: to repair a disk spares requests that
find nothing. The exit code is 1 if something is damaged and was not repaired.`
}

// Run reads the whole disk.
func (c *checkDisk) Run(std *streams) (err error) {
	if info, err := os.Stat(c.Dir); err != nil || !info.IsDir() {
		return usagef("%s is no folder: name the one that serve --disk was given", c.Dir)
	}
	folder, err := vfs.Dir(c.Dir)
	if err != nil {
		return usagef("%v", err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	sum, err := disk.Check(folder, c.Repair, func(f disk.Finding) { fmt.Fprintln(std.out, f) })
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return usagef("%s is in use: stop the larder that uses it", c.Dir)
	case errors.Is(err, fs.ErrNotExist):
		return usagef("%s holds no disk of Larder's: name the folder that serve --disk was given", c.Dir)
	case err != nil:
		return err
	}
	fmt.Fprintf(std.out, "%d responses, %v of bodies, in %d of %d segments\n",
		sum.Objects, size(sum.Octets), sum.Segments-sum.Free, sum.Segments)
	if sum.Gone > 0 {
		fmt.Fprintf(std.out, "%d more lost a part of their body to newer ones, which is no damage\n", sum.Gone)
	}
	switch {
	case sum.Repaired:
		fmt.Fprintf(std.out, "%d damaged places, which are forgotten now\n", sum.Damaged)
	case sum.Damaged > 0:
		return fmt.Errorf("%d damaged places: nothing of them is served; --repair forgets them", sum.Damaged)
	default:
		fmt.Fprintln(std.out, "nothing is damaged")
	}
	return nil
}
