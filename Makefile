.PHONY: serve check test lint fuzz conformance bench

serve: ## the main job: this folder, cached, at http://127.0.0.1:8000
	go run ./cmd/larder serve .

check: ## everything CI checks
	./check

test lint fuzz conformance: ## one step of check
	./check $@

bench: ## CPU per request against the floor and the peers (bench/README.md)
	go run ./bench
