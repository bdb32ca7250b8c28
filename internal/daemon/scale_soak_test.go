//go:build soak

package daemon

// replacements is how many times a certificate is replaced: this is the full size.
const replacements = 100
