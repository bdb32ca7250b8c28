// Package archive gives what is in a ZIP or tar file to a gateway, in place:
// nothing is unpacked to a disk, and nothing ahead of being asked for.
//
// Opening reads the archive's directory: of a ZIP file its central directory, of a
// tar file all headers, each with a seek to the next one. A million entries take about
// half a second in a ZIP file, three seconds in a tar file. The index takes 64 octets and
// the name for each entry and up to a quarter more, and while it is made twice that; there
// are at most 10 million entries and 1 GiB of names. Of more, or of an archive that is
// damaged, cut off or has entries that overlap, nothing is served.
//
// # What is served
//
// Regular files, by their names with any "./" at the beginning cut off, octet for
// octet as the archive has them. Folders are those that have an entry and those that
// a name implies. Of several entries of one name the last counts. Where a file and a
// folder have one name, the file is there, and nothing below it.
//
// A hard link of a tar file is the file that it stands for. Not there, and counted by
// Source.Skipped, are symbolic links, devices and other special files, links to
// nothing, what is below a file, and names that are absolute, that have empty, "." or
// ".." segments, segments that begin with gateway.Draft, a backslash, a control octet
// or a drive letter in front, or more than 4096 octets.
//
// There, but not to be had: encrypted entries of a ZIP file, fs.ErrPermission, and
// methods other than Stored and Deflate and sparse files of a tar file,
// errors.ErrUnsupported. A compressed tar file has no random access and is refused.
//
// # What is read
//
// Ranges of Stored entries and of tar files are read where they are. Those of a
// Deflate entry are inflated from its beginning on each time, so that a range
// costs as much as all before it: such an entry is Sequential, and no more ranges than
// there are processors (GOMAXPROCS) look for their beginning at a time; others wait.
//
// The CRC-32 of a ZIP entry is checked when its end is read, in a Deflate entry
// always, in a Stored one if the beginning was read too: the last octets come only
// if it is right. An entry never gives more octets than the directory says.
//
// A Deflate entry NAME is also there as NAME.gz, if nothing else has that name: its
// octets as they are in the archive, with a gzip header and trailer around them. These
// are not inflated and so not checked here; their trailer has size and CRC-32 for
// whoever does. No list shows them.
//
// # When the archive changes
//
// Each Open and List looks whether the path still has the file that the index is of:
// inode, size and time of modification. If not, the new index is read before
// anything is answered. While the new file cannot be used, everything is
// gateway.ErrUnavailable, also what was there before. What is open goes on with the
// file that it was opened from; if that one was written to, it fails with
// gateway.ErrChanged. Replace an archive by renaming, then nobody notices.
//
// Versions are of the entry and of the archive file, so that all versions change when
// the archive does. They are certain if the index was read when the file had been
// left alone for 2 seconds.
package archive
