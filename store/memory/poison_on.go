//go:build poison

package memory

// poison says that freed memory is overwritten, and that readers look for
// that: a build to test with.
const poison = true

// spoil makes sure that nobody takes b for anything.
func spoil(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}
