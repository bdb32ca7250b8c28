.PHONY: serve check test lint fuzz conformance soak bench

serve: ## the main job: this folder, cached, at http://127.0.0.1:8000
	go run ./cmd/larder serve .

check: ## everything CI checks
	./check

test lint fuzz conformance: ## one step of check
	./check $@

soak: ## many clients at once against a hostile origin, every answer judged; SOAK_SECONDS, SOAK_SEED
	go test -race -tags soak -count 1 -run Soak -v ./internal/engine

bench: ## CPU per request against the floor and the peers (bench/README.md)
	go run ./bench
