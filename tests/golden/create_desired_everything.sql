create or replace view "new_purchase"."desired" as
select "new_purchaseid" as "cusD365id",
       nullif(left("new_name", 100), '') as "cusName",
       nullif(case case "new_channel" when 1 then 'Web' when 2 then 'Store' end when 'Web' then 'W' else case "new_channel" when 1 then 'Web' when 2 then 'Store' end end, '') as "cusChannel",
       case when "new_quantity" = trunc("new_quantity") then try_cast("new_quantity" as bigint) end as "cusQuantity",
       nullif("new_contactid", '') as "cusContactId"
from "new_purchase"."snapshot"
where (coalesce("new_gift" = false, false));
