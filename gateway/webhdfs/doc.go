// Package webhdfs is a gateway.Writer over HDFS by its HTTP interface, WebHDFS. It is
// experimental: it was written after Hadoop's documentation and source, and tested
// against a fake name node and data node that do what those say, never against Hadoop.
//
// # What it asks
//
// All but octets comes from the name node:
//
//	Open    GETFILESTATUS
//	Range   OPEN with offset and length, [again], and at its end GETFILESTATUS
//	List    LISTSTATUS
//	Put     GETFILESTATUS, [MKDIRS], CREATE, GETFILESTATUS, RENAME
//	Delete  GETFILESTATUS, DELETE with recursive=false
//
// OPEN and CREATE are answered by 307, which is followed once, to the data node that it
// names: http or https, and https only where the name node is asked by https. Whoever
// rules the name node so rules where this process connects to. It also hands
// the credentials on, in the query of that URL; nothing is added here.
//
// # Versions
//
// The version is fileId, modificationTime and length. A name node never gives a fileId
// twice, and to overwrite a file is to make another one. Within one file octets that
// are there change only by truncating and appending again. Both set modificationTime, by
// the name node's clock in milliseconds; for all three to be as before, a client must have
// closed the file, truncated it and appended as much again within one of them, for
// each of which several calls are needed. Two seconds are far beyond that, so that a
// version is Certain once the file is so old. Who sets times back by SETTIMES is not
// noticed. Where fileId is missing (HttpFS, Hadoop 1) the version is gateway.ByTime.
//
// Where an answer to OPEN does not tell its length (HttpFS) and is not from the
// beginning on, the last octet is asked for first, as two, to see whether the server
// obeys offset.
//
// Neither node takes conditions. A reader asks for the status again before it gives its
// end, and fails with gateway.ErrChanged if that is of another version.
//
// # Changes
//
// Put writes to a new name that begins with ".larder-" and renames it, at once for all
// who look, by renameoptions=OVERWRITE. Hadoop's documentation of WebHDFS leaves that
// parameter out; the name node and Hadoop's own client have it since 2.0. A server
// that ignores it, such as HttpFS, can only make new objects; to replace one is an error.
// Where this process ends in between, or a data node begins to write when its client is
// gone, the object of that name stays, to be removed by hand. No fields are kept.
//
// If.Absent is kept by the name node (renameoptions=NONE). If.Version is looked at
// before the upload and again just before the change; another writer may come between
// that and the change. Likewise an empty folder that appears in the place of an
// object between the look and DELETE is removed.
//
// # What it does not do
//
// Kerberos (SPNEGO) and names with a colon, which HDFS does not have. One name node is
// asked: that it is on standby, or in safe mode, is gateway.ErrUnavailable. There is
// no Watch.
package webhdfs
