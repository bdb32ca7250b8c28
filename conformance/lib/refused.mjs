// The tests that Larder fails on purpose, and those in which a private cache differs:
// test id to the reason.

import { readFileSync } from 'node:fs'

const read = name => JSON.parse(readFileSync(new URL(`../${name}.json`, import.meta.url), 'utf8'))

export const refused = read('refused')
export const inPrivate = read('private')
