// Package esi assembles pages by Edge Side Includes: a template and the
// fragments that it names become one stream of octets. It knows neither stores
// nor the engine; fragments come through a function.
//
// The language is a subset of the ESI Language Specification 1.0 (W3C Note,
// 4 August 2001), section 25 of the requirements: include, remove, comment,
// try, choose, vars, `<!--esi`, variables and expressions. Where the Note is
// silent or leaves room, this holds:
//
//   - Names are compared exactly, as in XML. Values of attributes are quoted;
//     in them &amp; &lt; &gt; &quot; and &apos; are undone, before variables are
//     replaced. An attribute may not hold `<esi:`, `</esi:` or `<!--esi`, which
//     keeps a forgotten quote from swallowing the markup behind it.
//   - Elements are found anywhere in the text, in comments and scripts of HTML
//     too. An end tag ends only the element opened last; any other is malformed.
//     What is still open when a document ends, ends with it.
//   - In choose and try, all text outside the branches is dropped. An except
//     counts only behind its attempt; without one a failing try leaves nothing.
//   - comment vanishes with its content if it is not written as an empty element.
//   - Depth, loops, refused hosts, the status, the size and the time of a
//     fragment are failures of its include, which alt, onerror and except mend.
//     The number of includes and the size of the page are bounds of the page;
//     nothing in the page mends their excess.
//
// A fragment has come once its head is accepted and 64 KiB of its body, or all
// of it, were read; up to then alt and onerror can do their work. What fails
// later fails the enclosing attempt, or else the page, as text is gone already.
// A fragment that itself asks for assembly and whose include has alt or onerror
// is held back in full, like an attempt, so that failures in it can be mended.
package esi
