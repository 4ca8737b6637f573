"""The page: small files, one a tab. `page.build` puts them together."""
