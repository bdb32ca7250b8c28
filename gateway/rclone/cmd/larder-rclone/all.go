//go:build !lean

package main

// All kinds of storage that rclone has. They take minutes to build; with the tag lean
// there are only those that are imported elsewhere.
import _ "github.com/rclone/rclone/backend/all"
