module github.com/larderhq/larder

go 1.26

require (
	github.com/alecthomas/kong v1.17.0
	github.com/andybalholm/brotli v1.2.8
	github.com/dunglas/httpsfv v1.1.2
	github.com/klauspost/compress v1.20.3
	go.uber.org/goleak v1.3.0
)
