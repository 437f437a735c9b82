// Swagger UI over this node's own document; nothing is fetched from elsewhere, and no key is kept.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#docs", deepLinking: true, docExpansion: "list", validatorUrl: null, persistAuthorization: false });
