.PHONY: serve check test lint fuzz conformance soak bench proofs

serve: ## the main job: this folder, cached, at http://127.0.0.1:8000
	go run ./cmd/larder serve .

check: ## everything CI checks
	./check

test lint fuzz conformance: ## one step of check
	./check $@

soak: ## many clients at once against a hostile origin, every answer judged; SOAK_SECONDS, SOAK_SEED
	go test -race -tags soak -count 1 -run Soak -v ./internal/engine

proofs: ## what the stores promise, in full: every crash and fault, 10,000 flips, 1,000 kills, the memory ceiling (40 minutes)
	go test -tags soak -count 1 -timeout 30m -run 'Crash|Fault|Rot|Disks|CheckRepair' -v ./store/disk
	go test -tags poison -count 1 ./store/memory
	go run ./bench/crash -kills 1000
	go run ./bench/ceiling -time 10m

bench: ## CPU per request against the floor and the peers (bench/README.md)
	go run ./bench
