// The tests that Larder fails on purpose: test id to the reason.

import { readFileSync } from 'node:fs'

export const refused = JSON.parse(readFileSync(new URL('../refused.json', import.meta.url), 'utf8'))
