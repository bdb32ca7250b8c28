package vfs

// preadv2 is the number of the system call, which package syscall lacks.
const preadv2 = 327
