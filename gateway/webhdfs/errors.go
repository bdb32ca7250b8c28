package webhdfs

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/larderhq/larder/gateway"
)

var (
	// errFolder is for what only an object can be.
	errFolder = fmt.Errorf("it is a folder: %w", fs.ErrPermission)
	// errNoFolder is for what only a folder can be.
	errNoFolder = fmt.Errorf("it is no folder: %w", fs.ErrNotExist)
)

// A remote is what Hadoop says that went wrong (RemoteException).
type remote struct {
	Exception string `json:"exception"`
	Message   string `json:"message"`
	status    int
}

func (r *remote) Error() string {
	if r.Exception == "" {
		return fmt.Sprintf("the server answers %d %s", r.status, http.StatusText(r.status))
	}
	message, _, _ := strings.Cut(r.Message, "\n") // what follows is a stack trace
	return fmt.Sprintf("%s: %.200s", r.Exception, message)
}

// meanings are of exceptions. Their names count and not the status: 403 is of every
// IOException that is not of another kind.
var meanings = map[string]error{
	"FileNotFoundException":            fs.ErrNotExist,
	"InvalidPathException":             fs.ErrNotExist,
	"ParentNotDirectoryException":      fs.ErrNotExist,
	"AccessControlException":           fs.ErrPermission,
	"AuthorizationException":           fs.ErrPermission,
	"SecurityException":                fs.ErrPermission,
	"InvalidToken":                     fs.ErrPermission,
	"SnapshotAccessControlException":   fs.ErrPermission,
	"PathIsNotEmptyDirectoryException": fs.ErrPermission,
	"StandbyException":                 gateway.ErrUnavailable,
	"SafeModeException":                gateway.ErrUnavailable,
	"RetriableException":               gateway.ErrUnavailable,
	"ObserverRetryOnActiveException":   gateway.ErrUnavailable,
	"NotReplicatedYetException":        gateway.ErrUnavailable,
	"BlockMissingException":            gateway.ErrUnavailable,
	"ConnectException":                 gateway.ErrUnavailable,
	"SocketTimeoutException":           gateway.ErrUnavailable,
	"FileAlreadyExistsException":       gateway.ErrConflict,
	"DiskOutOfSpaceException":          gateway.ErrFull,
}

// Unwrap tells what it means to the gateway, nil if that is not known.
func (r *remote) Unwrap() error {
	name := r.Exception[strings.LastIndexAny(r.Exception, ".$")+1:]
	switch {
	case name == "":
		return r.byStatus()
	case strings.HasSuffix(name, "QuotaExceededException"), strings.HasSuffix(name, "QuotaByStorageTypeExceededException"):
		return gateway.ErrFull
	case name == "AccessControlException" && strings.Contains(r.Message, "is not a directory"):
		return fs.ErrNotExist // what is said of a name below a file
	case name == "IOException" && strings.HasPrefix(r.Message, "Offset=") && strings.Contains(r.Message, "out of the range"):
		return gateway.ErrChanged // it is shorter than it was
	case meanings[name] != nil:
		return meanings[name]
	case r.status >= 500:
		return gateway.ErrUnavailable
	}
	return nil
}

// byStatus is for answers of what is no Hadoop, or stands before it.
func (r *remote) byStatus() error {
	switch {
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		return fs.ErrPermission
	case r.status == http.StatusNotFound:
		return fs.ErrNotExist
	case r.status == http.StatusInsufficientStorage:
		return gateway.ErrFull
	case r.status >= 500, r.status == http.StatusRequestTimeout, r.status == http.StatusTooManyRequests:
		return gateway.ErrUnavailable
	}
	return nil
}

// refused is what an answer means that is no success.
func refused(resp *http.Response) error {
	var body struct{ RemoteException remote }
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil || json.Unmarshal(b, &body) != nil {
		body.RemoteException = remote{} // the status has to do
	}
	body.RemoteException.status = resp.StatusCode
	return &body.RemoteException
}
