// Which names may be taken for another: `www.аpple.com` has a Cyrillic а. The rules are those that browsers have for
// their address bars, made simpler: a label may hold one script, or those that are written together.

const SCRIPTS = [
  "Latin", "Cyrillic", "Greek", "Armenian", "Hebrew", "Arabic", "Devanagari", "Bengali", "Thai", "Georgian", "Cherokee",
  "Han", "Hiragana", "Katakana", "Bopomofo", "Hangul",
].map((name) => [name, new RegExp(`\\p{Script=${name}}`, "u")]);
const LETTER = /\p{L}/u;
const NEUTRAL = /\p{Script=Common}|\p{Script=Inherited}/u;

const TOGETHER = [
  ["Latin", "Han", "Hiragana", "Katakana"], // Japanese
  ["Latin", "Han", "Bopomofo"], // Chinese
  ["Latin", "Han", "Hangul"], // Korean
];

// Letters that look like a Latin one. A label of these alone, under a Latin top level, is one script and a trap.
const LATIN_LOOKING = /^[аԁеһіјӏкмоорԛѕтԝхугпьѵҽαικνορτυχω0-9-]+$/u;

function scriptOf(character) {
  if (!LETTER.test(character) || NEUTRAL.test(character)) return null;
  return SCRIPTS.find(([, pattern]) => pattern.test(character))?.[0] ?? "another script";
}

function scriptsOf(label) {
  return [...new Set([...label].map(scriptOf).filter(Boolean))];
}

/** Why a name may be taken for another, in a few words; null for all others, which are nearly all. */
export function lookalike(name) {
  if (/^[\x00-\x7f]*$/.test(name)) return null;
  const labels = name.split(".");
  for (const label of labels) {
    const scripts = scriptsOf(label);
    if (scripts.length > 1 && !TOGETHER.some((set) => scripts.every((script) => set.includes(script)))) {
      return `mixes ${scripts.join(" and ")}`;
    }
  }
  const isLatinTop = /^[a-z]+$/.test(labels.at(-1));
  const trap = isLatinTop && labels.find((label) => !/^[\x00-\x7f]*$/.test(label) && LATIN_LOOKING.test(label));
  return trap ? `${scriptsOf(trap)[0]} that looks like Latin` : null;
}

/** Whether this letter is of another script than the label's Latin ones: the one to look at. */
export function isOdd(character) {
  const script = scriptOf(character);
  return script !== null && script !== "Latin";
}

/** The name as DNS has it: `xn--...`. */
export function asDnsHasIt(name) {
  try {
    return new URL(`http://${name}`).hostname;
  } catch {
    return null;
  }
}
