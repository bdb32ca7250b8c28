//go:build !soak

package daemon

// replacements is how many times a certificate is replaced.
const replacements = 3
