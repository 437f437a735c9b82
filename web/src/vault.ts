// The node's key in this tab. It comes with the link, behind the #, and outlives a reload only encrypted: the tab's
// storage has the ciphertext, and what decrypts it is a key of the browser that no script can read out. Where the
// browser has no such keys (a page that is neither local nor HTTPS) it is kept in memory alone.

const STORED = "lethe-key";
const DATABASE = "lethe";
const STORE = "keys";
const WRAPPING = "wrapping";
const IV_BYTES = 12;

/** Takes the key out of the address, if one is there. */
export function fromAddress(): string | null {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given !== null) history.replaceState(null, "", `${location.pathname}#/chat`);
  return given || null;
}

/** The key that this tab had before it was loaded anew. */
export async function recall(): Promise<string | null> {
  try {
    const stored = sessionStorage.getItem(STORED);
    if (!stored) return null;
    const bytes = Uint8Array.from(atob(stored), (letter) => letter.charCodeAt(0));
    const algorithm = { name: "AES-GCM", iv: bytes.slice(0, IV_BYTES) };
    const plain = await crypto.subtle.decrypt(algorithm, await wrapping(), bytes.slice(IV_BYTES));
    return new TextDecoder().decode(plain);
  } catch {
    forget();
    return null;
  }
}

export async function keep(key: string): Promise<void> {
  try {
    const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
    const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, await wrapping(), new TextEncoder().encode(key));
    sessionStorage.setItem(STORED, btoa(String.fromCharCode(...iv, ...new Uint8Array(sealed))));
  } catch {
    forget(); // in memory alone, then
  }
}

export function forget(): void {
  try {
    sessionStorage.removeItem(STORED);
  } catch {
    // Nothing is stored there.
  }
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("the browser's storage failed"));
  });
}

/** The browser's key, made when it is first needed. */
async function wrapping(): Promise<CryptoKey> {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await done(opening);
  try {
    const read = database.transaction(STORE).objectStore(STORE).get(WRAPPING) as IDBRequest<CryptoKey | undefined>;
    const known = await done(read);
    if (known) return known;
    const made = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
    await done(database.transaction(STORE, "readwrite").objectStore(STORE).put(made, WRAPPING));
    return made;
  } finally {
    database.close();
  }
}
