module github.com/larderhq/larder

go 1.26

require (
	github.com/alecthomas/kong v1.17.0
	github.com/dunglas/httpsfv v1.1.2
	go.uber.org/goleak v1.3.0
)
