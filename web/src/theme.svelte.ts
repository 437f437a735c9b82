// Light or dark: as the system has it, unless the user says otherwise. The word is all that this page stores for good.

export const THEMES = ["system", "light", "dark"] as const;

export type ThemeName = (typeof THEMES)[number];

const STORED = "lethe-theme";

function stored(): ThemeName {
  try {
    const word = localStorage.getItem(STORED);
    return THEMES.find((name) => name === word) ?? "system";
  } catch {
    return "system"; // a browser that stores nothing
  }
}

class Theme {
  name = $state<ThemeName>(stored());
  #system = $state(false);

  constructor() {
    const query = matchMedia("(prefers-color-scheme: dark)");
    this.#system = query.matches;
    query.addEventListener("change", (event) => (this.#system = event.matches));
    this.#show();
  }

  get isDark(): boolean {
    return this.name === "system" ? this.#system : this.name === "dark";
  }

  choose(name: ThemeName): void {
    this.name = name;
    this.#show();
    try {
      if (name === "system") localStorage.removeItem(STORED);
      else localStorage.setItem(STORED, name);
    } catch {
      // It holds until the page is closed.
    }
  }

  #show(): void {
    if (this.name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.name;
  }
}

export const theme = new Theme();
